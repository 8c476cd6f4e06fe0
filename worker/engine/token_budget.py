"""The budget: how many padded tokens go through the device at once. It finds the number that answers fastest by itself.

Two sizes are tried in turn on neighbouring micro-batches, whose texts are of about one length, so that what differs
between the two is the size. The better one of enough pairs stays, and the next size in the same direction is tried.
"""

from dataclasses import dataclass, field
from statistics import median

from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS

MIN_TOKENS = 64
PAIRS_PER_TRIAL = 5  # an odd number: their median decides
MIN_SPEEDUP = 1.03  # what another size must gain to be worth changing for; less is noise
MIN_FILL = 0.6  # a micro-batch that fills less of its budget says nothing about the budget
COOLDOWN_MICRO_BATCHES = (
    300  # full micro-batches between two rounds of trials: texts, and a machine's other work, change
)


@dataclass(slots=True)
class Trial:
    """Another size, held against the one in force; `rates` are of the pair at hand, in tokens a second."""

    tokens: int
    speedups: list[float] = field(default_factory=list)
    tokens_per_second: dict[bool, float] = field(default_factory=dict)


class TokenBudgetTuner:
    """Of the device's thread alone. With `tunes` false it stays what it is, but for want of memory.

    `largest` is the most tokens that it tries by itself.
    """

    def __init__(self, tokens: int, *, tunable: bool = True, max_tokens: int = MAX_MICRO_BATCH_TOKENS) -> None:
        self.tokens = min(tokens, max_tokens) if tunable else tokens
        self._fixed_tokens = None if tunable else tokens
        self._max_tokens = self._ceiling = max_tokens
        self._untried_directions = [True, False]  # larger first: a GPU wants to be filled
        self._cooldown = 0
        self._trial: Trial | None = None
        self._begin_trial()

    def next(self) -> int:
        """The budget for the next micro-batch."""
        trial = self._trial
        return self.tokens if trial is None or False not in trial.tokens_per_second else trial.tokens

    def record(self, budget_tokens: int, padded_tokens: int, tokens: int, seconds: float) -> None:
        """Note that a micro-batch for a budget of `asked`, of `padded` tokens in all, took so long for its `tokens`."""
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
        """Note that the device had no memory for so many padded tokens: half of them it is, until it may grow again."""
        self._ceiling = max(1, padded_tokens // 2)
        self.tokens = max(1, min(self.tokens, self._ceiling))
        self._trial, self._untried_directions, self._cooldown = None, [], COOLDOWN_MICRO_BATCHES

    def _decide(self, trial: Trial) -> None:
        larger = trial.tokens > self.tokens
        if median(trial.speedups) >= MIN_SPEEDUP:
            self.tokens = trial.tokens
            self._untried_directions = [larger]  # the way back was just lost
        self._trial = None
        self._begin_trial()

    def _begin_trial(self) -> None:
        """Try the next size that has not been tried, or rest."""
        while self._fixed_tokens is None and self._untried_directions:
            tokens = self.tokens * 2 if self._untried_directions.pop(0) else self.tokens // 2
            if MIN_TOKENS <= tokens <= self._ceiling:
                self._trial = Trial(tokens)
                return
        self._cooldown = COOLDOWN_MICRO_BATCHES

    def _cool_down(self) -> None:
        self._cooldown -= 1
        if self._cooldown <= 0:
            self._ceiling = min(self._max_tokens, self._ceiling * 2)
            self.tokens = self.tokens if self._fixed_tokens is None else min(self._fixed_tokens, self._ceiling)
            self._untried_directions = [True, False]
            self._begin_trial()
