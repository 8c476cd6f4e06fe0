"""A contest: several ways to do the same work, run in turns, so that what else the machine does hits all alike."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to do the work; `run` returns the seconds that it took, without start and warm-up.

    One that takes very long sits out rounds past `most_rounds`.
    """

    name: str
    run: Callable[[], float]
    most_rounds: int = 99


@dataclass(slots=True)
class Standing:
    """What a contestant's runs took, for `work` items each."""

    name: str
    work: float
    seconds: list[float] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Items per second in the median run."""
        return self.work / median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Items per second in the slowest run and in the fastest."""
        return self.work / max(self.seconds), self.work / min(self.seconds)


def held(contestants: Sequence[Contestant], work: float, rounds: int) -> dict[str, Standing]:
    """Run every contestant once a round, every other round in the opposite order."""
    standings = {contestant.name: Standing(contestant.name, work) for contestant in contestants}
    for number in range(rounds):
        running = [contestant for contestant in contestants if number < contestant.most_rounds]
        for contestant in running if number % 2 == 0 else reversed(running):
            seconds = contestant.run()
            standings[contestant.name].seconds.append(seconds)
            print(f"  round {number + 1}: {contestant.name}: {seconds:.2f} s", file=sys.stderr, flush=True)
    return standings


def best(standings: Mapping[str, Standing], prefix: str) -> Standing:
    """The fastest of those whose names begin so."""
    return max((s for name, s in standings.items() if name.startswith(prefix)), key=lambda s: s.pace)
