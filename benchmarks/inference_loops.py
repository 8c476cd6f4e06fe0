"""Inference loops: transformers' pipeline in a loop, and our adapter and planner without queue or SQL."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import pipeline

from benchmarks import THREADS
from models.errors import JobError
from models.pipelines.pipeline import Pipeline
from worker.adapters.rows import Row
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.runtime import Runtime
from worker.passes import planning

TimedRun = Callable[[], float]


def load_pipeline(task: str, model: Any, tokenizer: Any = None) -> Any:
    """Load `pipeline(…)` on the CPU, with the same number of threads as every candidate."""
    torch.set_num_threads(THREADS)
    return pipeline(task, model=model, tokenizer=tokenizer, device="cpu")


def pipeline_loop(
    hf_pipeline: Any, inputs: Sequence[str], batch_size: int, *, sort_by_length: bool = False, **options: Any
) -> TimedRun:
    """Call the pipeline once for all inputs; sorting by length, if requested, is on the clock."""

    def run() -> float:
        started = time.perf_counter()
        ordered = sorted(inputs, key=len, reverse=True) if sort_by_length else list(inputs)
        outputs = hf_pipeline(ordered, batch_size=batch_size, **options)
        assert len(outputs) == len(inputs)
        return time.perf_counter() - started

    return run


def bare_loop(
    loaded_runtime: Runtime, inputs: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
) -> TimedRun:
    """Time `answer_in_one_thread`."""

    def run() -> float:
        started = time.perf_counter()
        answers = answer_in_one_thread(loaded_runtime, inputs, parameters)
        assert len(answers) == len(inputs)
        return time.perf_counter() - started

    return run


def answer_in_one_thread(
    loaded_runtime: Runtime, inputs: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
) -> list[Any]:
    """Encode, plan, run and decode with our adapter and planner; returns the outputs in the order of the inputs."""
    lease = Lease(1, "bare", 0, len(inputs), 1, 1, parameters=dict(parameters or {}))
    jobs = [Job(lease, position, dict(document)) for position, document in enumerate(inputs)]
    adapter = loaded_runtime.adapter
    rows = [row for encoded in adapter.encode(jobs) for row in _require_rows(encoded)]
    parts: dict[int, list[tuple[Row, Any]]] = defaultdict(list)
    for batch in planning.plan_micro_batches(rows, loaded_runtime.micro_batch_tokens, adapter.max_rows):
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True):
            parts[row.job.position].append((row, raw))
    return [adapter.decode(*_group_by_job(parts[position])) for position in range(len(parts))]


def load_runtime(task: str, folder: Path, **fields: Any) -> Runtime:
    """Load a checkpoint as a worker does."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    entry = Pipeline(name="bench", task=task, model=str(folder), **fields)
    return runtime.load(entry, "cpu", threads=THREADS)


def _group_by_job(parts: list[tuple[Row, Any]]) -> tuple[list[Row], list[Any]]:
    rows, raw = zip(*sorted(parts, key=lambda part: part[0].part_index), strict=True)
    return list(rows), list(raw)


def _require_rows(encoded: list[Row] | JobError) -> list[Row]:
    if isinstance(encoded, JobError):
        raise encoded
    return encoded
