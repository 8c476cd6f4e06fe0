"""A token budget tuner finds the number of padded tokens per micro-batch with the highest throughput.

It begins with a size that fits the model and the device, and keeps it for the first micro-batches. Then it tries two
sizes in turn on neighbouring micro-batches. Their texts have about equal length, so only the size differs. The size
that wins most pairs stays, and the next one in the same direction is tried.
"""

from dataclasses import dataclass, field

from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS

MIN_TOKENS = 64
PAIRS_PER_TRIAL = 5  # the majority decides, as soon as it is certain
MAJORITY = PAIRS_PER_TRIAL // 2 + 1
MIN_SPEEDUP = 1.03  # of another size, to change to it; less is noise
MIN_FILL = 0.6  # a micro-batch that fills less of its budget says nothing about the budget
MAX_UNFILLED = 5  # micro-batches of a trial that say nothing, until it ends: too few rows fit into one
# Full micro-batches before the first round of trials. The size to begin with is good, so a worker's first jobs need not
# pay for a search.
WARM_UP_MICRO_BATCHES = 16
# Full micro-batches between two rounds of trials, because texts and the machine's other work change.
COOLDOWN_MICRO_BATCHES = 300
# The memory ran out again after the budget had grown back: so often, then it stays small until the process restarts.
MAX_FAILED_REGROWTHS = 2


@dataclass(slots=True)
class Trial:
    """A size that is compared with the current one."""

    tokens: int
    tokens_per_second: dict[bool, float] = field(default_factory=dict)  # of the current pair; True = of the trial
    wins: int = 0
    losses: int = 0
    unfilled: int = 0


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What a lack of memory changes for longer than a cooldown."""

    tokens: int
    ceiling: int
    failed_regrowths: int
    has_regrown: bool


class TokenBudgetTuner:
    """Tunes the token budget; used by the device thread alone.

    tokens: padded tokens to start from.
    tunable: False = the budget only changes when memory runs out.
    max_tokens: the largest budget to try.
    """

    def __init__(self, tokens: int, *, tunable: bool = True, max_tokens: int = MAX_MICRO_BATCH_TOKENS) -> None:
        self.tokens = min(tokens, max_tokens) if tunable else tokens
        self._fixed_tokens = None if tunable else tokens
        self._max_tokens = self._ceiling = max_tokens
        self._untried_directions: list[bool] = []  # True = larger
        self._cooldown = WARM_UP_MICRO_BATCHES
        self._failed_regrowths = 0
        self._has_regrown = False
        self._trial: Trial | None = None

    def next(self) -> int:
        """Return the budget for the next micro-batch."""
        trial = self._trial
        return self.tokens if trial is None or False not in trial.tokens_per_second else trial.tokens

    def record(self, budget_tokens: int, padded_tokens: int, tokens: int, seconds: float) -> None:
        """Record the time of a micro-batch.

        budget_tokens: the budget that it was planned for.
        padded_tokens: its tokens including padding.
        tokens: its tokens without padding.
        """
        trial = self._trial
        if padded_tokens < MIN_FILL * budget_tokens or seconds <= 0:
            if trial is not None and budget_tokens == trial.tokens:
                trial.unfilled += 1
                self._decide(trial)
        elif trial is None:
            self._cool_down()
        elif budget_tokens in (self.tokens, trial.tokens):
            self._compare(trial, is_trial=budget_tokens == trial.tokens, tokens_per_second=tokens / seconds)

    def shrink(self, padded_tokens: int) -> None:
        """Halve the budget, because the device ran out of memory at `padded_tokens`; it may grow after a cooldown."""
        self._failed_regrowths += self._has_regrown
        self._has_regrown = False
        self._ceiling = max(1, padded_tokens // 2)
        self.tokens = max(1, min(self.tokens, self._ceiling))
        self._trial, self._untried_directions, self._cooldown = None, [], COOLDOWN_MICRO_BATCHES

    @property
    def limits(self) -> BudgetLimits:
        """The limits to restore if the size turns out not to be at fault."""
        return BudgetLimits(self.tokens, self._ceiling, self._failed_regrowths, self._has_regrown)

    def restore(self, limits: BudgetLimits) -> None:
        """Take back what `shrink` has changed since then, except for the cooldown."""
        self.tokens, self._ceiling = limits.tokens, limits.ceiling
        self._failed_regrowths, self._has_regrown = limits.failed_regrowths, limits.has_regrown

    def _compare(self, trial: Trial, *, is_trial: bool, tokens_per_second: float) -> None:
        trial.tokens_per_second[is_trial] = tokens_per_second
        if len(trial.tokens_per_second) == 2:
            has_won = trial.tokens_per_second[True] >= MIN_SPEEDUP * trial.tokens_per_second[False]
            trial.wins += has_won
            trial.losses += not has_won
            trial.tokens_per_second.clear()
            self._decide(trial)

    def _decide(self, trial: Trial) -> None:
        """End the trial once it has won or lost; a size that can't be filled has lost."""
        if trial.wins == MAJORITY:
            larger = trial.tokens > self.tokens
            self.tokens = trial.tokens
            self._untried_directions = [larger]  # the other direction has just lost
        elif trial.losses < MAJORITY and trial.unfilled < MAX_UNFILLED:
            return
        self._trial = None
        self._begin_trial()

    def _begin_trial(self) -> None:
        """Begin a trial of the next untried size, or the cooldown."""
        while self._fixed_tokens is None and self._untried_directions:
            tokens = self.tokens * 2 if self._untried_directions.pop(0) else self.tokens // 2
            if MIN_TOKENS <= tokens <= self._ceiling:
                self._trial = Trial(tokens)
                return
        self._cooldown = COOLDOWN_MICRO_BATCHES

    def _cool_down(self) -> None:
        self._cooldown -= 1
        if self._cooldown <= 0:
            if self._ceiling < self._max_tokens and self._failed_regrowths < MAX_FAILED_REGROWTHS:
                self._ceiling = min(self._max_tokens, self._ceiling * 2)
                self._has_regrown = True
            self.tokens = self.tokens if self._fixed_tokens is None else min(self._fixed_tokens, self._ceiling)
            self._untried_directions = [True, False]  # larger first, which fills a GPU
            self._begin_trial()
