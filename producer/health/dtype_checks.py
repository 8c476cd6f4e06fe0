"""Checks of the dtypes and quantizations in which pipelines run, on this machine and where live workers serve them."""

import socket
from collections.abc import Collection, Iterable, Iterator, Sequence

from models.pipelines import precision
from models.pipelines.checkpoint import Checkpoint
from models.pipelines.model_files import ModelFiles
from models.pipelines.options.quantization import device_problem
from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline
from producer.health.findings import WARNING, Finding
from producer.workers.workers import WorkerView


def check_dtypes(
    pipelines: Iterable[Pipeline], named: Collection[str], workers: Sequence[WorkerView], *, has_gpu: bool
) -> Iterator[Finding]:
    """Warn about dtypes that are slow where the pipelines run, and about quantizations that can't run there.

    pipelines: the catalogue's; those that no live worker serves count only if `named`, and the dtypes of samples never.
    named: the entries of batchmill.toml.
    has_gpu: whether this machine has a GPU.
    """
    alive = [worker for worker in workers if worker.alive]
    for pipeline in pipelines:
        serving = [worker for worker in alive if pipeline.name in worker.served_pipelines]
        if not (serving or pipeline.name in named):
            continue
        for kind in _device_kinds(pipeline, serving, has_gpu=has_gpu):
            is_sample = pipeline.model.startswith(BUNDLED_PREFIX)
            if not is_sample and (warning := precision.slow_dtype_warning(pipeline, kind, _dtype(pipeline, kind))):
                message, _, advice = warning.partition("; ")
                yield Finding(WARNING, "dtype", message, advice)
            if problem := device_problem(pipeline.quantization, kind):
                message, _, advice = problem.partition("; ")
                yield Finding(WARNING, "quantization", f"{pipeline.name}: {message}", advice)


def _device_kinds(pipeline: Pipeline, serving: Sequence[WorkerView], *, has_gpu: bool) -> list[str]:
    """Return where the pipeline runs, by live workers, or would run here; the processor is known of this host only."""
    if pipeline.device == "mps":
        return []
    if pipeline.device == "cpu":
        return ["cpu"] if not serving or any(worker.host == socket.gethostname() for worker in serving) else []
    if not serving:
        return ["cuda"] if has_gpu or pipeline.device.startswith("cuda") else ["cpu"]
    kinds = {
        "cuda" if worker.device.startswith("cuda") else "cpu"
        for worker in serving
        if worker.device.startswith("cuda") or (worker.device.startswith("cpu") and worker.host == socket.gethostname())
    }
    return sorted(kinds)


def _dtype(pipeline: Pipeline, kind: str) -> str | None:
    files = ModelFiles.find(pipeline)
    if files is None:
        return precision.effective_dtype(pipeline, kind, {}, None)
    return precision.effective_dtype(pipeline, kind, files.config, Checkpoint.read(files.folder))
