"""Breakage: a device that answers nothing any more to this process, whatever it is asked. Pure.

To go on would fail every input that follows with the error of one. The process ends instead, and its successor finds
the culprit, if there is one, as with any input that kills.
"""

import errno

# After these each further call fails alike until the process is started anew: CUDA Runtime API, cudaError_t, 700 to
# 719. An uncorrectable ECC error (214) leaves memory that nobody should compute with.
STICKY_CUDA_ERRORS = (
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "device-side assert triggered",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "uncorrectable ECC error encountered",
)


class DeviceLost(Exception):
    """The device is lost to this process; nobody's input is to blame for what it says from here on."""

    def __init__(self) -> None:
        super().__init__("the device answers nothing any more; this process ends, and its work is given back")


def is_device_lost(error: BaseException) -> bool:
    """Whether this error, of torch's, is one that the process can't get over."""
    said = str(error)
    return isinstance(error, RuntimeError) and "error" in said and any(words in said for words in STICKY_CUDA_ERRORS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this says that the device's memory, or the machine's, did not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error)


# What an operating system says when it is busy, or when something at the other end of a wire is.
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


# What CUDA says of a device that somebody else occupies; torch has one class for all that CUDA says.
BUSY_DEVICE_MESSAGES = ("devices are busy or unavailable", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later without anybody changing anything."""
    retryable = getattr(error, "retryable", None)
    if isinstance(retryable, bool):
        return retryable
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError):
        return error.errno in TRANSIENT_ERRNOS
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BUSY_DEVICE_MESSAGES)
