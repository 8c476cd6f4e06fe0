"""Replaces `worker.loading.runtime` in worker processes: a model without torch that fails where its inputs say so."""

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

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its crashes are intended


class OutOfMemoryError(RuntimeError):
    """Recognized by its name, as torch's is."""


class FakeAdapter:
    """Returns the text and its length; a text that begins with a verb of `FAULTS_BY_VERB` causes that fault."""

    max_rows = MAX_ROWS
    should_interrupt = staticmethod(never_interrupted)
    device_lost = False  # of this process

    def encode(self, jobs: list[Job]) -> list[list[Row]]:
        return [[Row(job, None, len(job.input["text"]), truncated=False)] for job in jobs]

    def forward(self, batch: MicroBatch) -> list[Any]:
        texts = [row.job.input["text"] for row in batch.rows]
        log_forward_pass(texts)
        time.sleep(float(os.environ.get("FAKE_FORWARD_SECONDS", "0")))
        if batch.padded_tokens > float(os.environ.get("FAKE_MEMORY_TOKENS", "inf")):
            raise OutOfMemoryError("of the fake model")
        for text in texts:
            if cause_fault := FAULTS_BY_VERB.get(text.partition(" ")[0]):
                cause_fault()
        if self.device_lost:
            raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later")
        return texts

    def decode(self, _rows: list[Row], raw: list[Any]) -> Any:
        return {"text": raw[0], "length": len(raw[0])}


class FakeGuardAdapter(FakeAdapter):
    """Finds an injection in a text with the word `ignore`; `guard-abort` and the like cause the fault in this model."""

    def encode(self, jobs: list[Job]) -> list[list[Row]]:
        return [[Row(job, None, len(job.input["text"]), truncated=False)] for job in jobs]

    def forward(self, batch: MicroBatch) -> list[Any]:
        texts = [row.job.input["text"] for row in batch.rows]
        time.sleep(float(os.environ.get("FAKE_GUARD_SECONDS", "0")))
        for text in texts:
            prefix, _, verb = text.partition(" ")[0].partition("-")
            if prefix == "guard" and (cause_fault := FAULTS_BY_VERB.get(verb)):
                cause_fault()
        return [0.9 if "ignore" in text else 0.1 for text in texts]

    def decode_many(self, jobs: list[Any]) -> list[str]:
        return [f'[{{"label":"INJECTION","score":{score}}}]' for _, [score] in jobs]


def resolve_device(name: str) -> str:
    return "cpu" if name == "auto" else name


def load(pipeline: Any, _device: str, *, micro_batch_tokens: int | None, **_options: Any) -> Any:
    if pipeline.name == os.environ.get("FAKE_LOAD_CRASH"):
        os.abort()
    if os.environ.get("FAKE_DEVICE", "cpu").startswith("cuda"):
        import torch

        torch.zeros(1, device=os.environ["FAKE_DEVICE"])  # so that no pass waits for the device to start
    guards = {name: make_runtime(FakeGuardAdapter(), "nobody/guard", 100) for name in pipeline.guard_pipelines}
    return make_runtime(FakeAdapter(), "nobody/fake", micro_batch_tokens or 10_000, guards)


def make_runtime(adapter: FakeAdapter, model: str, tokens: int, guards: dict[str, Any] | None = None) -> Any:
    return Runtime(
        adapter=adapter,
        version=RuntimeVersion("sentiment-analysis", model, "r", model, "r", "float32", None, "none", "cpu", {}),
        model=SimpleNamespace(config=SimpleNamespace(num_labels=1)),
        micro_batch_tokens=tokens,
        max_micro_batch_tokens=10_000,
        tunable=False,
        can_offload=False,
        device=None,
        release_memory=lambda: None,
        is_memory_taken_by_others=lambda _error: False,
        guards=guards or {},
        parameters={},
    )


def log_forward_pass(texts: list[str]) -> None:
    """Write a line for each text that goes through the model."""
    if path := os.environ.get("FAKE_FORWARD_LOG"):
        with Path(path).open("a") as file:
            file.writelines(f"{text}\n" for text in texts)


def hang_forever() -> None:
    time.sleep(3600)


def raise_model_error() -> None:
    raise RuntimeError("of the fake model")


def raise_connection_error() -> None:
    raise ConnectionResetError("of the fake model")


def mark_device_lost() -> None:
    FakeAdapter.device_lost = True


def assert_on_device() -> None:
    """Look up an embedding that is not there: on CUDA a failed assertion, after which the device is lost."""
    device = os.environ["FAKE_DEVICE"]
    if not device.startswith("cuda"):
        mark_device_lost()
        return
    import torch

    torch.nn.functional.embedding(torch.tensor([5], device=device), torch.zeros(1, 1, device=device))
    torch.cuda.synchronize(device)


def sleep_on_device() -> None:
    """Keep the device busy for an hour, and wait for it."""
    device = os.environ["FAKE_DEVICE"]
    if not device.startswith("cuda"):
        hang_forever()
    import torch

    for _ in range(3600):
        torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    torch.cuda.synchronize(device)


FAULTS_BY_VERB = {
    "abort": os.abort,
    "assert": mark_device_lost,
    "hang": hang_forever,
    "raise": raise_model_error,
    "disconnect": raise_connection_error,
    "device-assert": assert_on_device,
    "device-sleep": sleep_on_device,
}
