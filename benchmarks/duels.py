"""Duels: one task end to end against transformers' own pipeline at several batch sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import loops, mills, options
from benchmarks.contest import Candidate, Measurement, fastest_of, run_interleaved

BATCHMILL_NAME = "Batchmill, end to end"
PIPELINE_PREFIX = "pipeline(batch_size="
WARM_UP_INPUTS = 8


@dataclass(frozen=True, slots=True)
class PipelineComparison:
    """The same work for both: `options` are what the pipeline is called with, `parameters` those of our batch.

    `entry` holds further fields of our catalogue entry; `sizes` are the pipeline's batch sizes. `warm_up` goes through
    our worker before the clock starts.
    """

    task: str
    model: Path
    inputs: Sequence[str]
    batch_sizes: Sequence[int]
    pipeline_options: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    catalogue_fields: Mapping[str, Any] = field(default_factory=dict)
    warm_up_inputs: Sequence[str] = ()

    def run(self, rounds: int, more_candidates: Sequence[Candidate] = ()) -> dict[str, Measurement]:
        """Take turns; ours is among the standings as `OURS`."""
        pipe = loops.load_pipeline(self.task, str(self.model))
        pipe(list(self.inputs[:WARM_UP_INPUTS]), **self.pipeline_options)
        contestants = [
            Candidate(
                f"{PIPELINE_PREFIX}{size})", loops.pipeline_loop(pipe, self.inputs, size, **self.pipeline_options)
            )
            for size in self.batch_sizes
        ]
        entries = {"bench": {"task": self.task, "model": str(self.model), **self.catalogue_fields}}
        with (
            options.temporary_folder() as folder,
            mills.run_servers() as (postgres, valkey),
            mills.run_service(postgres, valkey, folder / "mill", entries) as service,
        ):
            service.run_batch("bench", self.warm_up_inputs or self.inputs[:WARM_UP_INPUTS], self.parameters)

            def ours() -> float:
                return service.run_batch("bench", self.inputs, self.parameters).work_seconds

            return run_interleaved(
                [*contestants, *more_candidates, Candidate(BATCHMILL_NAME, ours)], len(self.inputs), rounds
            )


def speedup(measurements: Mapping[str, Measurement], baseline_prefix: str = PIPELINE_PREFIX) -> float:
    """How many times as fast ours is as the best of those whose names begin so."""
    return measurements[BATCHMILL_NAME].items_per_second / fastest_of(measurements, baseline_prefix).items_per_second
