"""A comparison of one task end to end with transformers' pipeline at several batch sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import deployments, inference_loops, options
from benchmarks.comparison import Candidate, Measurement, fastest_of, run_interleaved

BATCHMILL_NAME = "Batchmill, end to end"
PIPELINE_PREFIX = "pipeline(batch_size="
WARM_UP_INPUTS = 8


@dataclass(frozen=True, slots=True)
class PipelineComparison:
    """The same work for both sides.

    batch_sizes: the pipeline's batch sizes.
    pipeline_options: arguments of the pipeline call.
    parameters: parameters of our batch.
    catalogue_fields: further fields of our catalogue entry.
    warm_up_inputs: inputs that our worker answers before the clock starts, empty = the first of `inputs`.
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
        """Run the candidates in turns; ours is in the measurements as `BATCHMILL_NAME`."""
        pipe = inference_loops.load_pipeline(self.task, str(self.model))
        pipe(list(self.inputs[:WARM_UP_INPUTS]), **self.pipeline_options)
        contestants = [
            Candidate(
                f"{PIPELINE_PREFIX}{size})",
                inference_loops.pipeline_loop(pipe, self.inputs, size, **self.pipeline_options),
            )
            for size in self.batch_sizes
        ]
        entries = {"bench": {"task": self.task, "model": str(self.model), **self.catalogue_fields}}
        with (
            options.temporary_folder() as folder,
            deployments.run_servers() as (postgres, valkey),
            deployments.run_service(postgres, valkey, folder / "home", entries) as service,
        ):
            service.run_batch("bench", self.warm_up_inputs or self.inputs[:WARM_UP_INPUTS], self.parameters)

            def ours() -> float:
                return service.run_batch("bench", self.inputs, self.parameters).work_seconds

            return run_interleaved(
                [*contestants, *more_candidates, Candidate(BATCHMILL_NAME, ours)], len(self.inputs), rounds
            )


def speedup(measurements: Mapping[str, Measurement], baseline_prefix: str = PIPELINE_PREFIX) -> float:
    """Return our throughput relative to the fastest candidate whose name starts with the prefix."""
    return measurements[BATCHMILL_NAME].items_per_second / fastest_of(measurements, baseline_prefix).items_per_second
