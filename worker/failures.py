"""Classification of errors: device lost, out of memory, or transient. Pure.

After a lost device every later input would fail with the error of one. So the process ends, and its successor finds
the culprit, if there is one, as with any input that crashes workers.
"""

import errno
import re
from collections.abc import Iterator

MAX_CHAIN_LENGTH = 10  # of an error and its causes

# After these errors every further call fails until the process restarts: CUDA Runtime API, cudaError_t. An error of an
# earlier kernel leaves the context unusable (700 to 719); an uncorrectable ECC or NVLink error leaves corrupt memory.
# cuBLAS and cuDNN report a failed kernel by a status of their own.
STICKY_DEVICE_ERRORS = (
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "context is destroyed",
    "device-side assert triggered",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error",
    "Invalid access of peer GPU memory over nvlink",
    "invalid device context",
    "driver shutting down",
    "no CUDA-capable device is detected",
    "busy or unavailable",
    "the remote procedural call between the MPS server and the MPS client failed",
    "the MPS client has been terminated",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_MAPPING_ERROR",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_MAPPING_ERROR",
)
# Words that other libraries use too, so the driver must be named before them. Triton launches compiled kernels itself.
DRIVER_ERROR = r"((CUDA|HIP)( driver)? error|Triton Error \[(CUDA|HIP)\]): "
STICKY_DRIVER_ERROR = re.compile(DRIVER_ERROR + "(unknown error|initialization error)|GPU is lost")

# Memory that torch's own allocator did not ask for, such as that of kernels and of the driver.
DEVICE_OUT_OF_MEMORY = re.compile(DRIVER_ERROR + "out of memory|MPS backend out of memory")

# Phrases from drivers and allocators, because torch has only one or two exception classes for all of them.
DEVICE_ERROR_PHRASES = (
    "cuda",
    "nvidia",
    "cudnn",
    "cublas",
    "nccl",
    "hip error",
    "mps backend",
    "no kernel image",
    "devices are busy",
    "device-side",
    "peer access",
)


class DeviceLost(Exception):
    """The device is lost to this process; later errors are no input's fault."""

    def __init__(self) -> None:
        super().__init__("the device no longer answers; this process ends and releases its slices")


def is_device_lost(error: BaseException) -> bool:
    """Whether this error, or a cause of it, makes the device unusable for the rest of the process."""
    return any(
        isinstance(cause, DeviceLost) or (isinstance(cause, RuntimeError) and _is_sticky(str(cause)))
        for cause in exception_chain(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    message = str(error)
    return "can't allocate memory" in message or (
        isinstance(error, RuntimeError) and DEVICE_OUT_OF_MEMORY.search(message) is not None
    )


def is_machine_problem(error: BaseException) -> bool:
    """Whether a device, memory or another resource failed, so that the error says nothing about a model or an input."""
    return is_device_lost(error) or any(
        is_out_of_memory(cause) or is_transient(cause) for cause in exception_chain(error)
    )


def is_device_error(error: BaseException) -> bool:
    """Whether this is an error of a driver or an allocator, such as of a card that this build of torch lacks."""
    text = str(error).lower()
    return isinstance(error, (RuntimeError, AssertionError)) and any(phrase in text for phrase in DEVICE_ERROR_PHRASES)


def exception_chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    cause: BaseException | None = error
    for _ in range(MAX_CHAIN_LENGTH):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_sticky(message: str) -> bool:
    if STICKY_DRIVER_ERROR.search(message):
        return True
    return "error" in message.lower() and any(text in message for text in STICKY_DEVICE_ERRORS)


# The operating system, or a remote end, is busy.
TRANSIENT_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.ESTALE,
        errno.EIO,
    }
)


# Another process occupies the device. torch has one class for all CUDA errors, so the text decides.
# cuBLAS and cuDNN call themselves not initialized where their handle finds no memory on a full card.
BUSY_DEVICE_MESSAGES = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
)


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later without any change."""
    retryable = getattr(error, "retryable", None)
    if isinstance(retryable, bool):
        return retryable
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError):
        return error.errno in TRANSIENT_ERRNOS
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BUSY_DEVICE_MESSAGES)


def mark_transient(error: BaseException) -> None:
    """Let `is_transient` take this error for one that may pass, for a reason that only its place of origin knows."""
    error.retryable = True  # type: ignore[attr-defined]
