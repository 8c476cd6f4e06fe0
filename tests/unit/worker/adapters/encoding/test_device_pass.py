"""A pass that a device may still compute: its clock, its errors, and its outputs."""

from typing import Any

import pytest
import torch

from worker.adapters.encoding import device_pass
from worker.adapters.encoding.device_pass import DevicePass
from worker.failures import DeviceLost


class FakeEvent:
    """An event of a device that passes it at a given time, in milliseconds."""

    def __init__(self, milliseconds: float, error: Exception | None = None) -> None:
        self.milliseconds = milliseconds
        self.error = error
        self.waits = 0

    def synchronize(self) -> None:
        self.waits += 1
        if self.error is not None:
            raise self.error

    def elapsed_time(self, end: "FakeEvent") -> float:
        return end.milliseconds - self.milliseconds


def launch(monkeypatch: pytest.MonkeyPatch, ended: FakeEvent) -> DevicePass:
    monkeypatch.setattr(device_pass, "record_event", lambda _device: ended)
    started: Any = FakeEvent(250.0)
    return DevicePass([torch.tensor([[1.0], [2.0]])], started, lambda scores: scores.flatten().tolist())


def test_outputs_are_read_after_the_device_has_passed_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = FakeEvent(1_750.0)
    launched = launch(monkeypatch, ended)

    before = launched.device_seconds, ended.waits
    outputs = launched.result()

    assert before == (None, 0)
    assert outputs == [1.0, 2.0]
    assert (launched.device_seconds, ended.waits) == (1.5, 1)


def test_an_error_of_the_device_is_no_inputs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("CUDA error: an error that no list knows")
    launched = launch(monkeypatch, FakeEvent(1.0, error))

    with pytest.raises(DeviceLost) as raised:
        launched.result()

    assert raised.value.__cause__ is error


def test_a_cpu_has_no_clock_of_its_own() -> None:
    cpu = torch.device("cpu")
    launched = DevicePass([torch.ones(2)], device_pass.record_event(cpu), list)

    assert launched.result() == [1.0, 1.0]
    assert launched.device_seconds is None
    assert device_pass.passes_in_flight(cpu) == 1
    assert device_pass.passes_in_flight(torch.device("cuda")) == 2
