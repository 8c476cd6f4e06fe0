"""Classification of errors: which CUDA errors lose the device."""

import pytest

from worker.failures import is_device_lost

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "HIP error: invalid program counter",
    ],
)
def test_sticky_cuda_errors_lose_the_device(message: str) -> None:
    assert is_device_lost(RuntimeError(message))


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
def test_transient_errors_and_errors_of_one_input_do_not(error: Exception) -> None:
    assert not is_device_lost(error)
