"""A worker process with a no-op model, which measures Batchmill alone."""

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from models.pipelines.pipeline import Pipeline
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job
from worker.loading import runtime
from worker.loading.runtime import Runtime
from worker.loading.versions import RuntimeVersion
from worker.process import main

MICRO_BATCH_TOKENS = 1_024
OUTPUT = {"label": "NONE", "score": 1.0}


class NoOpAdapter:
    """An adapter with one token for every text and the same answer for all."""

    auto_model_class: ClassVar[Any] = None
    max_rows = 512

    def encode(self, jobs: Sequence[Job]) -> list[list[Row]]:
        """Return an empty row for each job."""
        return [[Row(job, None, 1, truncated=False)] for job in jobs]

    def forward(self, batch: MicroBatch) -> list[None]:
        """Return nothing for each row."""
        return [None] * len(batch.rows)

    def decode(self, _rows: Sequence[Row], _raw: Sequence[None]) -> dict[str, Any]:
        """Return a sentiment model's output, so that the same amount is written."""
        return OUTPUT


def load(pipeline: Pipeline, _device: str, **_options: Any) -> Runtime:
    """Replace `runtime.load`."""
    version = RuntimeVersion(
        task=pipeline.task,
        model="no-op",
        revision="0",
        tokenizer="no-op",
        tokenizer_revision="0",
        dtype="none",
        quantization=None,
        attention="none",
        device="cpu",
        libraries={},
    )
    return Runtime(NoOpAdapter(), version, MICRO_BATCH_TOKENS, None, torch.device("cpu"), 1, 0)  # type: ignore[arg-type]


if __name__ == "__main__":
    runtime.load = load  # type: ignore[assignment]
    sys.exit(main.main([sys.argv[1]], "cpu", 1, f"no-op-{os.getpid()}"))
