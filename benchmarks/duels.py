"""Duels: one task end to end against transformers' own pipeline at several batch sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import loops, mills, options
from benchmarks.contest import Contestant, Standing, best, held

OURS = "Batchmill, end to end"
PLAIN = "pipeline(batch_size="
WARM_UP = 8


@dataclass(frozen=True, slots=True)
class Duel:
    """The same work for both: `options` are what the pipeline is called with, `parameters` those of our batch.

    `entry` holds further fields of our catalogue entry; `sizes` are the pipeline's batch sizes. `warm_up` goes through
    our worker before the clock starts.
    """

    task: str
    model: Path
    inputs: Sequence[str]
    sizes: Sequence[int]
    options: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    warm_up: Sequence[str] = ()

    def run(self, rounds: int, further: Sequence[Contestant] = ()) -> dict[str, Standing]:
        """Take turns; ours is among the standings as `OURS`."""
        pipe = loops.transformers_pipeline(self.task, str(self.model))
        pipe(list(self.inputs[:WARM_UP]), **self.options)
        contestants = [
            Contestant(f"{PLAIN}{size})", loops.plain(pipe, self.inputs, size, **self.options)) for size in self.sizes
        ]
        entries = {"bench": {"task": self.task, "model": str(self.model), **self.entry}}
        with (
            options.work_folder() as folder,
            mills.servers() as (postgres, valkey),
            mills.service(postgres, valkey, folder / "mill", entries) as service,
        ):
            service.run("bench", self.warm_up or self.inputs[:WARM_UP], self.parameters)

            def ours() -> float:
                return service.run("bench", self.inputs, self.parameters).worked

            return held([*contestants, *further, Contestant(OURS, ours)], len(self.inputs), rounds)


def lead(standings: Mapping[str, Standing], over: str = PLAIN) -> float:
    """How many times as fast ours is as the best of those whose names begin so."""
    return standings[OURS].pace / best(standings, over).pace
