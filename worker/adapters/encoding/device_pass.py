"""A forward pass that was launched and that the device may still compute, timed by the device's own clock."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from worker.failures import DeviceLost

# One pass is read while the next one computes. More would only hold more memory.
CUDA_PASSES_IN_FLIGHT = 2


class DevicePass:
    """The outputs of one pass on their way to the host's memory.

    On CUDA, the copies go to pinned memory, so that they wait for the pass without stopping this thread. On other
    devices, the pass has ended when this object is made.

    outputs: the tensors to copy.
    started: an event recorded before the pass, None = the device has no clock.
    make_raw_outputs: turns the copies, NumPy arrays, into one raw output for each row.
    """

    def __init__(
        self,
        outputs: Sequence[torch.Tensor],
        started: torch.cuda.Event | None,
        make_raw_outputs: Callable[..., list[Any]],
    ) -> None:
        self.device_seconds: float | None = None  # known after `result`, None = the device has no clock
        self._started, self._ended = started, None
        self._make_raw_outputs = make_raw_outputs
        self._copies = [tensor.to("cpu", non_blocking=started is not None) for tensor in outputs]
        if started is not None:
            self._ended = record_event(outputs[0].device)

    def result(self) -> list[Any]:
        """Wait for the pass, and return one raw output for each row. Raises DeviceLost."""
        if self._started is not None and self._ended is not None:
            try:
                self._ended.synchronize()
                self.device_seconds = self._started.elapsed_time(self._ended) / 1000
            except RuntimeError as error:  # of the device: every input error was raised at the launch
                raise DeviceLost from error
        return self._make_raw_outputs(*(copy.numpy() for copy in self._copies))


def record_event(device: torch.device) -> torch.cuda.Event | None:
    """An event that the device passes when it has done all work so far; None where it has no such clock."""
    if device.type != "cuda":
        return None
    # `blocking` lets the waiting thread sleep instead of spin, so other processes get the core.
    event = torch.cuda.Event(enable_timing=True, blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event


def passes_in_flight(device: torch.device) -> int:
    """How many passes to launch before the first one's outputs are read."""
    return CUDA_PASSES_IN_FLIGHT if device.type == "cuda" else 1
