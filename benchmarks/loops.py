"""Loops: transformers' own pipeline called in a loop, and ours without queue or SQL."""

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
from worker.engine import planning
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.runtime import Runtime

TimedRun = Callable[[], float]


def load_pipeline(task: str, model: Any, tokenizer: Any = None) -> Any:
    """`pipeline(…)` on the CPU, with as many threads as everybody else."""
    torch.set_num_threads(THREADS)
    return pipeline(task, model=model, tokenizer=tokenizer, device="cpu")


def pipeline_loop(
    hf_pipeline: Any, inputs: Sequence[str], batch_size: int, *, sort_by_length: bool = False, **options: Any
) -> TimedRun:
    """One call for all inputs, sorted by length before if asked; sorting is on the clock."""

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
    """Our adapter and planner in one thread: encode, plan, forward, decode."""
    lease = Lease(1, "bare", 0, len(inputs), 1, 1, parameters=dict(parameters or {}))
    jobs = [Job(lease, position, dict(document)) for position, document in enumerate(inputs)]

    def run() -> float:
        started = time.perf_counter()
        rows = [row for encoded in loaded_runtime.adapter.encode(jobs) for row in _require_rows(encoded)]
        parts: dict[int, list[tuple[Row, Any]]] = defaultdict(list)
        for batch in planning.plan_micro_batches(
            rows, loaded_runtime.micro_batch_tokens, loaded_runtime.adapter.max_rows
        ):
            for row, raw in zip(batch.rows, loaded_runtime.adapter.forward(batch), strict=True):
                parts[row.job.position].append((row, raw))
        answers = [loaded_runtime.adapter.decode(*_group_by_job(of_job)) for of_job in parts.values()]
        assert len(answers) == len(jobs)
        return time.perf_counter() - started

    return run


def load_runtime(task: str, folder: Path, **fields: Any) -> Runtime:
    """A checkpoint as a worker loads it."""
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
