"""A model without torch, in the place of `worker.loading.runtime`: quick to start, and it does what its inputs say."""

import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from worker.adapters.interface import never_interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job
from worker.loading.versions import RuntimeVersion

Runtime = SimpleNamespace
MAX_ROWS = 8

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its deaths are meant


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's is."""


class FakeAdapter:
    """Answers with the text and its length; a text that begins with a verb of `VERBS` does what that says."""

    max_rows = MAX_ROWS
    should_interrupt = staticmethod(never_interrupted)
    device_lost = False  # the device, to this process

    def encode(self, jobs: list[Job]) -> list[list[Row]]:
        return [[Row(job, None, len(job.input["text"]), truncated=False)] for job in jobs]

    def forward(self, batch: MicroBatch) -> list[Any]:
        texts = [row.job.input["text"] for row in batch.rows]
        log_forward_pass(texts)
        time.sleep(float(os.environ.get("TOY_PASS_SECONDS", "0")))
        if batch.padded_tokens > float(os.environ.get("TOY_MEMORY_TOKENS", "inf")):
            raise OutOfMemoryError("of the toy")
        for text in texts:
            if act := FAULTS_BY_VERB.get(text.partition(" ")[0]):
                act()
        if self.device_lost:
            raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later")
        return texts

    def decode(self, _rows: list[Row], raw: list[Any]) -> Any:
        return {"text": raw[0], "length": len(raw[0])}


def load(pipeline: Any, _device: str, *, threads: int | None, micro_batch_tokens: int | None) -> Any:
    if pipeline.name == os.environ.get("TOY_LOAD_KILLS"):
        os.abort()
    version = RuntimeVersion(
        "sentiment-analysis", "nobody/toy", "r", "nobody/toy", "r", "float32", None, "none", "cpu", {}
    )
    del threads
    return Runtime(
        adapter=FakeAdapter(),
        version=version,
        micro_batch_tokens=micro_batch_tokens or 10_000,
        max_micro_batch_tokens=10_000,
        tunable=False,
        release_memory=lambda: None,
    )


def log_forward_pass(texts: list[str]) -> None:
    """Write down what goes through the model, a line for each text."""
    if ledger := os.environ.get("TOY_LEDGER"):
        with Path(ledger).open("a") as file:
            file.writelines(f"{text}\n" for text in texts)


def hang_forever() -> None:
    time.sleep(3600)


def raise_model_error() -> None:
    raise RuntimeError("of the toy")


def raise_connection_error() -> None:
    raise ConnectionResetError("of the toy")


def mark_device_lost() -> None:
    FakeAdapter.device_lost = True


FAULTS_BY_VERB = {
    "abort": os.abort,
    "assert": mark_device_lost,
    "hang": hang_forever,
    "raise": raise_model_error,
    "disconnect": raise_connection_error,
}
