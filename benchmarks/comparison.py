"""A comparison runs several candidates in turns, so that other load on the machine affects all alike."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to do the work.

    One that takes very long sits out rounds past `max_rounds`.
    """

    name: str
    run: Callable[[], float]
    max_rounds: int = 99


@dataclass(slots=True)
class Measurement:
    """Seconds of a candidate's runs, each over the same number of items."""

    name: str
    items: float
    seconds: list[float] = field(default_factory=list)

    @property
    def items_per_second(self) -> float:
        """Items per second in the median run."""
        return self.items / median(self.seconds)

    @property
    def items_per_second_range(self) -> tuple[float, float]:
        """Items per second in the slowest and the fastest run."""
        return self.items / max(self.seconds), self.items / min(self.seconds)


def run_interleaved(candidates: Sequence[Candidate], items: float, rounds: int) -> dict[str, Measurement]:
    """Run every candidate once a round, in the opposite order every other round."""
    standings = {contestant.name: Measurement(contestant.name, items) for contestant in candidates}
    for number in range(rounds):
        running = [contestant for contestant in candidates if number < contestant.max_rounds]
        for contestant in running if number % 2 == 0 else reversed(running):
            seconds = contestant.run()
            standings[contestant.name].seconds.append(seconds)
            print(f"  round {number + 1}: {contestant.name}: {seconds:.2f} s", file=sys.stderr, flush=True)
    return standings


def fastest_of(measurements: Mapping[str, Measurement], prefix: str) -> Measurement:
    """Return the fastest measurement whose name starts with the prefix."""
    return max((s for name, s in measurements.items() if name.startswith(prefix)), key=lambda s: s.items_per_second)
