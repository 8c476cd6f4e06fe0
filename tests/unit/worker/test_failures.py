"""Which errors a process can't get over: what CUDA says from then on to every call."""

import pytest

from worker.failures import is_device_lost

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "HIP error: invalid program counter",
    ],
)
def test_a_lost_device_breaks(said: str) -> None:
    assert is_device_lost(RuntimeError(said))


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
        RuntimeError("The size of tensor a (513) must match the size of tensor b (512)"),
        IndexError("index out of range in self"),
        ValueError("error: device-side assert triggered"),
    ],
)
def test_what_passes_or_is_one_input_s_own_does_not(error: Exception) -> None:
    assert not is_device_lost(error)
