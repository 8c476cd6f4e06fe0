"""A token budget tuner finds the number of padded tokens per micro-batch with the highest throughput.

It tries two sizes in turn on neighbouring micro-batches. Their texts have about equal length, so only the size differs.
The size that wins most pairs stays, and the next one in the same direction is tried.
"""

from dataclasses import dataclass, field
from statistics import median

from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS

MIN_TOKENS = 64
PAIRS_PER_TRIAL = 5  # an odd number: their median decides
MIN_SPEEDUP = 1.03  # of another size, to change to it; less is noise
MIN_FILL = 0.6  # a micro-batch that fills less of its budget says nothing about the budget
# Full micro-batches between two rounds of trials, because texts and the machine's other work change.
COOLDOWN_MICRO_BATCHES = 300
# How often the budget may grow back to a size that runs out of memory again. Each such pass is computed twice.
MAX_FAILED_REGROWTHS = 2


@dataclass(slots=True)
class Trial:
    """A size that is compared with the current one."""

    tokens: int
    speedups: list[float] = field(default_factory=list)
    tokens_per_second: dict[bool, float] = field(default_factory=dict)  # of the current pair; True = of the trial


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
        self._untried_directions = [True, False]  # True = larger, which is first because it fills a GPU
        self._cooldown = 0
        self._has_regrown, self._failed_regrowths = False, 0
        self._trial: Trial | None = None
        self._begin_trial()

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
        if padded_tokens < MIN_FILL * budget_tokens or seconds <= 0:
            return
        trial = self._trial
        if trial is None:
            self._cool_down()
        elif budget_tokens in (self.tokens, trial.tokens):
            trial.tokens_per_second[budget_tokens == trial.tokens] = tokens / seconds
            if len(trial.tokens_per_second) == 2:
                trial.speedups.append(trial.tokens_per_second[True] / trial.tokens_per_second[False])
                trial.tokens_per_second.clear()
            if len(trial.speedups) == PAIRS_PER_TRIAL:
                self._decide(trial)

    def shrink(self, padded_tokens: int) -> None:
        """Halve the budget, because the device ran out of memory at `padded_tokens`; it may grow after a cooldown.

        Once it has run out of memory again after it grew, `MAX_FAILED_REGROWTHS` times, it stays below that size.
        """
        self._failed_regrowths += self._has_regrown
        self._has_regrown = False
        self._ceiling = max(1, padded_tokens // 2)
        self.tokens = max(1, min(self.tokens, self._ceiling))
        self._trial, self._untried_directions, self._cooldown = None, [], COOLDOWN_MICRO_BATCHES

    def _decide(self, trial: Trial) -> None:
        larger = trial.tokens > self.tokens
        if median(trial.speedups) >= MIN_SPEEDUP:
            self.tokens = trial.tokens
            self._untried_directions = [larger]  # the other direction has just lost
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
                self._ceiling, self._has_regrown = min(self._max_tokens, self._ceiling * 2), True
            self.tokens = self.tokens if self._fixed_tokens is None else min(self._fixed_tokens, self._ceiling)
            self._untried_directions = [True, False]
            self._begin_trial()
