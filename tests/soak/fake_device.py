"""A worker process with a fake device: a text's output is its hash, and some passes fail.

It runs in place of `worker.process`, without torch, so that a killed worker is back within a second.
"""

import hashlib
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

from models.pipelines.pipeline import Pipeline

FORWARD_SECONDS, ROW_SECONDS = 0.002, 0.0005
DEVICE_FAILURE_PROBABILITY = 0.01  # the share of passes over several rows in which the device, and no text, is to blame
SCARCE_MEMORY_TOKENS = 96  # what it has room for when it has little

INVALID_ONE_IN, TRANSIENT_ONE_IN = 400, 300  # texts that can't be answered, and such as need luck


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


def text_hash(text: str) -> int:
    """What decides all about a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def expected_output(text: str) -> dict[str, Any]:
    """What an undisturbed run says of a text."""
    return {"label": "EVEN" if text_hash(text) % 2 == 0 else "ODD", "score": text_hash(text) / 2**32}


def expected_vector(text: str) -> bytes:
    """The vector of a text, which no other text has."""
    from models import vectors

    return vectors.from_numbers([(text_hash(text) >> shift) % 2**8 / 2**8 for shift in range(0, 32, 8)])


def is_invalid(text: str) -> bool:
    """Whether the text can never be answered."""
    return text_hash(text) % INVALID_ONE_IN == 1


def is_transient(text: str) -> bool:
    """Whether something that a text needs is away every other time."""
    return text_hash(text) % TRANSIENT_ONE_IN == 2


class FakeAdapter:
    """Looks to the engine like a model on a device."""

    auto_model_class: ClassVar[Any] = None
    max_rows = 64

    def __init__(self) -> None:
        self._rng = random.Random(os.getpid())

    def encode(self, jobs: Sequence[Any]) -> list[list[Any]]:
        """A token for each word."""
        from worker.adapters.rows import Row

        return [[Row(job, None, len(job.input["text"].split()), truncated=False)] for job in jobs]

    def forward(self, batch: Any) -> list[dict[str, Any]]:
        """Return the outputs after a while."""
        time.sleep(FORWARD_SECONDS + ROW_SECONDS * len(batch.rows))
        texts = [row.job.input["text"] for row in batch.rows]
        if len(texts) > 1 and self._rng.random() < DEVICE_FAILURE_PROBABILITY:
            raise ConnectionResetError("the device blinked")
        if (
            len(texts) > 1
            and batch.padded_tokens > SCARCE_MEMORY_TOKENS
            and self._rng.random() < DEVICE_FAILURE_PROBABILITY
        ):
            raise OutOfMemoryError("the device is full")
        if any(is_transient(text) and self._rng.random() < 0.5 for text in texts):
            raise ConnectionRefusedError("what this text needs is away")
        if any(map(is_invalid, texts)):
            raise ValueError("this text breaks the model")
        return [expected_output(text) for text in texts]

    def decode(self, _rows: Sequence[Any], raw: Sequence[dict[str, Any]]) -> Any:
        """Return the output unchanged."""
        return raw[0]


class FakeVectorAdapter(FakeAdapter):
    """The same, with a vector for each text."""

    def decode(self, rows: Sequence[Any], _raw: Sequence[dict[str, Any]]) -> Any:
        """Return the vector of the text."""
        return expected_vector(rows[0].job.input["text"])


class FakeRuntime:
    """As much of `worker.loading.runtime.Runtime` as an engine needs."""

    micro_batch_tokens, max_micro_batch_tokens, weight_bytes, tunable, can_offload = 512, 512, 0, False, True
    device = model = None
    shared_sizes: Mapping[int, int] = MappingProxyType({})
    guards: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, pipeline: Pipeline) -> None:
        from worker.loading.versions import RuntimeVersion

        self.adapter = FakeVectorAdapter() if pipeline.task == "feature-extraction" else FakeAdapter()
        self.version = RuntimeVersion(
            task=pipeline.task,
            model=pipeline.model,
            revision=pipeline.revision or "0" * 40,
            tokenizer="none",
            tokenizer_revision="0",
            dtype="none",
            quantization=None,
            attention="none",
            device="cpu",
            libraries={},
        )

    def release_memory(self) -> None:
        """There is none to give back."""

    def is_memory_taken_by_others(self, _error: BaseException) -> bool:
        """Whether other processes have it: never."""
        return False


def main(arguments: Sequence[str]) -> int:
    """`worker.process`, with this device."""
    fake = ModuleType("worker.loading.runtime")
    fake.Runtime = FakeRuntime  # type: ignore[attr-defined]
    fake.load = lambda pipeline, *_, **__: FakeRuntime(pipeline)  # type: ignore[attr-defined]
    sys.modules["worker.loading.runtime"] = fake  # before anything imports the real one, and torch with it
    from models.errors import BatchmillError
    from worker.process import main as worker_main

    names, device, threads, worker_id = arguments
    try:
        return worker_main.main(names.split(","), device, int(threads) or None, worker_id)
    except BatchmillError as error:
        print(f"worker can't run: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    status = main(sys.argv[1:5])
    sys.stdout.flush()
    os._exit(status)
