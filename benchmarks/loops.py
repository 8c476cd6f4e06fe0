"""Loops: transformers' own pipeline called in a loop, and ours without queue or SQL."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import pipeline

from benchmarks import THREADS
from models.pipeline import Pipeline
from worker import batching, runtime
from worker.answers import of as answer_of
from worker.assembly import Assembly
from worker.bisection import isolate
from worker.claims import Job, Lease
from worker.runtime import Runtime

Loop = Callable[[], float]


def transformers_pipeline(task: str, model: Any, tokenizer: Any = None) -> Any:
    """`pipeline(…)` on the CPU, with as many threads as everybody else."""
    torch.set_num_threads(THREADS)
    return pipeline(task, model=model, tokenizer=tokenizer, device="cpu")


def plain(pipe: Any, inputs: Sequence[str], batch_size: int, *, sort: bool = False, **options: Any) -> Loop:
    """One call for all inputs, sorted by length before if asked; sorting is on the clock."""

    def run() -> float:
        started = time.perf_counter()
        ordered = sorted(inputs, key=len, reverse=True) if sort else list(inputs)
        outputs = pipe(ordered, batch_size=batch_size, **options)
        assert len(outputs) == len(inputs)
        return time.perf_counter() - started

    return run


def bare(loaded: Runtime, inputs: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None) -> Loop:
    """Our adapter and planner in one thread: encode, plan, forward, decode."""
    lease = Lease(1, "bare", 0, len(inputs), 1, 1, dict(parameters or {}))
    jobs = [Job(lease, position, dict(document)) for position, document in enumerate(inputs)]

    def run() -> float:
        started = time.perf_counter()
        rows = [row for _, encoded in isolate(loaded.adapter.encode, jobs) for row in _rows(encoded)]
        assembly, answered = Assembly(), 0
        for batch in batching.plan(rows, loaded.tokens_per_batch, loaded.adapter.most_rows):
            outputs = zip(batch.rows, loaded.adapter.forward(batch), strict=True)
            for parts in assembly.add(outputs, batch.width):
                assert answer_of(loaded.adapter, parts).error_code is None
                answered += 1
        assert answered == len(jobs)
        return time.perf_counter() - started

    return run


def load(task: str, folder: Path, **fields: Any) -> Runtime:
    """A checkpoint as a worker loads it."""
    entry = Pipeline(name="bench", task=task, model=str(folder), **fields)
    return runtime.load(entry, "cpu", threads=THREADS)


def _rows(encoded: Any) -> Any:
    assert not isinstance(encoded, Exception), encoded
    return encoded
