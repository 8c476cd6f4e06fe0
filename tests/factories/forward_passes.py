"""Single-threaded forward passes of generating adapters, with a record of their batch sizes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models import tasks
from models.pipelines.catalogue import Pipeline
from tests.factories import tiny_decoders
from worker.adapters.rows import Row
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

# The end token is likely: a row stops after a few tokens, each at a different time.
GENERATION_CONFIG = {"eos_token_id": [0, *range(60, 90)], "do_sample": False, "max_new_tokens": 40}
TEXTS = ["a", "love it", "the loved the loved", "x" * 25, "world", "great " * 5, "0 1 2", "hi", "ab", "7", "q e d", "Z"]


def load_adapter(folder: Path, task: str = "text-generation", **fields: Any) -> Any:
    pipeline = Pipeline(**{"name": "made", "task": task, "model": str(folder), **fields})
    return runtime.load(pipeline, "cpu", threads=1).adapter


def load_decoder(folder: Path, architecture: str = "llama", **generation: Any) -> Any:
    return load_adapter(getattr(tiny_decoders, architecture)(folder, generation={**GENERATION_CONFIG, **generation}))


def encode_texts(adapter: Any, texts: Sequence[str], task: str = "text-generation", **parameters: Any) -> list[Row]:
    spec = tasks.find_spec(task)
    checked = spec.check_parameters(parameters)
    lease = Lease(1, "batch", 0, len(texts), 1, 1, parameters=checked)
    jobs = [Job(lease, position, spec.normalise(text, checked)) for position, text in enumerate(texts)]
    return [row for rows in adapter.encode(jobs) for row in rows]


def forward_all(adapter: Any, rows: Sequence[Row], token_budget: int = 10_000) -> dict[tuple[int, int], Any]:
    """Return the raw outputs by position and part."""
    return {
        (row.job.position, row.part_index): raw
        for batch in planning.plan_micro_batches(rows, token_budget, adapter.max_rows)
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True)
    }


@contextmanager
def record_batch_sizes(model: torch.nn.Module) -> Iterator[list[int]]:
    """Record how many rows the model computes for each token."""
    sizes: list[int] = []

    def seen(_model: Any, given: tuple[Any, ...], told: dict[str, Any]) -> None:
        sizes.append(len(given[0] if given else told.get("decoder_input_ids", told.get("input_ids"))))

    handle = model.register_forward_pre_hook(seen, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()
