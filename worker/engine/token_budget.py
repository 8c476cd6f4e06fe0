"""The budget: how many padded tokens go through the device at once. It finds the number that answers fastest by itself.

Two sizes are tried in turn on neighbouring micro-batches, whose texts are of about one length, so that what differs
between the two is the size. The better one of enough pairs stays, and the next size in the same direction is tried.
"""

from dataclasses import dataclass, field
from statistics import median

from worker.adapters.rows import LARGEST

SMALLEST = 64
PAIRS = 5  # an odd number: their median decides
BETTER = 1.03  # what another size must gain to be worth changing for; less is noise
FULL = 0.6  # a micro-batch that fills less of its budget says nothing about the budget
REST = 300  # full micro-batches between two rounds of trials: texts, and a machine's other work, change


@dataclass(slots=True)
class Trial:
    """Another size, held against the one in force; `rates` are of the pair at hand, in tokens a second."""

    tokens: int
    ratios: list[float] = field(default_factory=list)
    rates: dict[bool, float] = field(default_factory=dict)


class Budget:
    """Of the device's thread alone. With `tunes` false it stays what it is, but for want of memory.

    `largest` is the most tokens that it tries by itself.
    """

    def __init__(self, tokens: int, *, tunes: bool = True, largest: int = LARGEST) -> None:
        self.tokens = min(tokens, largest) if tunes else tokens
        self._given = None if tunes else tokens
        self._largest = self._ceiling = largest
        self._untried = [True, False]  # larger first: a GPU wants to be filled
        self._rest = 0
        self._trial: Trial | None = None
        self._begin()

    def next(self) -> int:
        """The budget for the next micro-batch."""
        trial = self._trial
        return self.tokens if trial is None or False not in trial.rates else trial.tokens

    def record(self, asked: int, padded: int, tokens: int, seconds: float) -> None:
        """Note that a micro-batch for a budget of `asked`, of `padded` tokens in all, took so long for its `tokens`."""
        if padded < FULL * asked or seconds <= 0:
            return
        trial = self._trial
        if trial is None:
            self._rested()
        elif asked in (self.tokens, trial.tokens):
            trial.rates[asked == trial.tokens] = tokens / seconds
            if len(trial.rates) == 2:
                trial.ratios.append(trial.rates[True] / trial.rates[False])
                trial.rates.clear()
            if len(trial.ratios) == PAIRS:
                self._decide(trial)

    def shrink(self, padded: int) -> None:
        """Note that the device had no memory for so many padded tokens: half of them it is, until it may grow again."""
        self._ceiling = max(1, padded // 2)
        self.tokens = max(1, min(self.tokens, self._ceiling))
        self._trial, self._untried, self._rest = None, [], REST

    def _decide(self, trial: Trial) -> None:
        larger = trial.tokens > self.tokens
        if median(trial.ratios) >= BETTER:
            self.tokens = trial.tokens
            self._untried = [larger]  # the way back was just lost
        self._trial = None
        self._begin()

    def _begin(self) -> None:
        """Try the next size that has not been tried, or rest."""
        while self._given is None and self._untried:
            tokens = self.tokens * 2 if self._untried.pop(0) else self.tokens // 2
            if SMALLEST <= tokens <= self._ceiling:
                self._trial = Trial(tokens)
                return
        self._rest = REST

    def _rested(self) -> None:
        self._rest -= 1
        if self._rest <= 0:
            self._ceiling = min(self._largest, self._ceiling * 2)
            self.tokens = self.tokens if self._given is None else min(self._given, self._ceiling)
            self._untried = [True, False]
            self._begin()
