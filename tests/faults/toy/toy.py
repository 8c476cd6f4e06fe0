"""A model without torch, in the place of `worker.loading.runtime`: quick to start, and it does what its inputs say."""

import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from worker.adapters.interface import never
from worker.adapters.rows import Encoded, MicroBatch
from worker.leasing.leases import Job
from worker.loading.versions import Version

Runtime = SimpleNamespace
ROWS = 8

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its deaths are meant


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's is."""


class Toy:
    """Answers with the text and its length; a text that begins with a verb of `VERBS` does what that says."""

    most_rows = ROWS
    interrupt = staticmethod(never)
    lost = False  # the device, to this process

    def encode(self, jobs: list[Job]) -> list[list[Encoded]]:
        return [[Encoded(job, None, len(job.input["text"]), truncated=False)] for job in jobs]

    def forward(self, batch: MicroBatch) -> list[Any]:
        texts = [row.job.input["text"] for row in batch.rows]
        note(texts)
        time.sleep(float(os.environ.get("TOY_PASS_SECONDS", "0")))
        if batch.padded_tokens > float(os.environ.get("TOY_MEMORY_TOKENS", "inf")):
            raise OutOfMemoryError("of the toy")
        for text in texts:
            if act := VERBS.get(text.partition(" ")[0]):
                act()
        if self.lost:
            raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later")
        return texts

    def decode(self, _rows: list[Encoded], raw: list[Any]) -> Any:
        return {"text": raw[0], "length": len(raw[0])}


def load(pipeline: Any, _device: str, *, threads: int | None, tokens_per_batch: int | None) -> Any:
    if pipeline.name == os.environ.get("TOY_LOAD_KILLS"):
        os.abort()
    version = Version("sentiment-analysis", "nobody/toy", "r", "nobody/toy", "r", "float32", None, "none", "cpu", {})
    del threads
    return Runtime(
        adapter=Toy(), version=version, tokens_per_batch=tokens_per_batch or 10_000, most_tokens=10_000,
        tunes=False,
        release_memory=lambda: None,
    )  # fmt: skip


def note(texts: list[str]) -> None:
    """Write down what goes through the model, a line for each text."""
    if ledger := os.environ.get("TOY_LEDGER"):
        with Path(ledger).open("a") as file:
            file.writelines(f"{text}\n" for text in texts)


def hang() -> None:
    time.sleep(3600)


def fail() -> None:
    raise RuntimeError("of the toy")


def lose_connection() -> None:
    raise ConnectionResetError("of the toy")


def lose_device() -> None:
    Toy.lost = True


VERBS = {"abort": os.abort, "assert": lose_device, "hang": hang, "raise": fail, "disconnect": lose_connection}
