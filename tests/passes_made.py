"""Passes of adapters that write texts, in one thread and watched."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models import tasks
from models.pipelines.catalogue import Pipeline
from tests import models_made_decoders
from worker.adapters.rows import Encoded
from worker.engine import planning
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

# Ends are likely: a row stops after a few tokens, each at its own time.
ENDS = {"eos_token_id": [0, *range(60, 90)], "do_sample": False, "max_new_tokens": 40}
TEXTS = ["a", "love it", "the loved the loved", "x" * 25, "world", "great " * 5, "0 1 2", "hi", "ab", "7", "q e d", "Z"]


def load(folder: Path, task: str = "text-generation", **entry: Any) -> Any:
    pipeline = Pipeline(**{"name": "made", "task": task, "model": str(folder), **entry})
    return runtime.load(pipeline, "cpu", threads=1).adapter


def decoder(folder: Path, architecture: str = "llama", **generation: Any) -> Any:
    return load(getattr(models_made_decoders, architecture)(folder, generation={**ENDS, **generation}))


def encoded(adapter: Any, texts: Sequence[str], task: str = "text-generation", **parameters: Any) -> list[Encoded]:
    spec = tasks.find(task)
    checked = spec.check_parameters(parameters)
    lease = Lease(1, "batch", 0, len(texts), 1, 1, parameters=checked)
    jobs = [Job(lease, position, spec.normalise(text, checked)) for position, text in enumerate(texts)]
    return [row for rows in adapter.encode(jobs) for row in rows]


def written(adapter: Any, rows: Sequence[Encoded], budget: int = 10_000) -> dict[tuple[int, int], Any]:
    """The raw outputs by position and part."""
    return {
        (row.job.position, row.part): raw
        for batch in planning.plan(rows, budget, adapter.most_rows)
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True)
    }


@contextmanager
def watched(model: torch.nn.Module) -> Iterator[list[int]]:
    """How many rows the model computes, token by token."""
    sizes: list[int] = []

    def seen(_model: Any, given: tuple[Any, ...], told: dict[str, Any]) -> None:
        sizes.append(len(given[0] if given else told.get("decoder_input_ids", told.get("input_ids"))))

    handle = model.register_forward_pre_hook(seen, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()
