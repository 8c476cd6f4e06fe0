"""Classification of errors: which lose the device, which are a lack of memory, and which say nothing about an input."""

import errno

import pytest
import torch

from models.errors import JobError
from worker.failures import DeviceLost, is_device_lost, is_machine_problem, is_out_of_memory

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


def chained(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error",
        "CUDA error: all CUDA-capable devices are busy or unavailable",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: unknown error",
        "CUDA driver error: unknown error",
        "CUDA error: initialization error",
        "CUDA error: driver shutting down",
        "CUDA error: context is destroyed",
        "CUDA error: the remote procedural call between the MPS server and the MPS client failed",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`",
        "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost. Reboot the system",
        "HIP error: invalid program counter",
        "Triton Error [CUDA]: device-side assert triggered",
        "Triton Error [CUDA]: unknown error",
    ],
)
@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
def test_lasting_errors_lose_the_device(kind: type[Exception], message: str) -> None:
    assert is_device_lost(kind(message))
    assert is_device_lost(chained(ValueError("of a library"), kind(message)))
    assert is_machine_problem(kind(message))


def test_an_error_after_the_device_is_lost_is_known_by_its_cause() -> None:
    assert is_device_lost(chained(ValueError("of a library"), DeviceLost()))


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: invalid configuration argument"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("The size of tensor a (513) must match the size of tensor b (512)"),
        RuntimeError("unknown error"),
        IndexError("index out of range in self"),
        ValueError("error: device-side assert triggered"),
    ],
)
def test_transient_errors_and_errors_of_one_input_do_not(error: Exception) -> None:
    assert not is_device_lost(error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.02 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
    ],
)
def test_a_lack_of_memory_is_known_whoever_reports_it(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert is_machine_problem(error)
    assert is_machine_problem(chained(ValueError("of a library"), error))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        ValueError("CUDA error: out of memory"),
        AttributeError("no such layer"),
        JobError("unknown_token", "it has a token that the model lacks"),
    ],
)
def test_other_errors_are_no_machine_s(error: Exception) -> None:
    assert not is_machine_problem(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        OSError(errno.EIO, "Input/output error"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    ],
)
def test_a_resource_that_is_busy_is_the_machine_s(error: Exception) -> None:
    assert is_machine_problem(error)
