"""Classification of errors: device lost, out of memory, or transient. Pure.

After a lost device every later input would fail with the error of one. So the process ends, and its successor finds
the culprit, if there is one, as with any input that crashes workers.
"""

import errno

# After these errors every further call fails until the process restarts: CUDA Runtime API, cudaError_t, 700 to 719.
# An uncorrectable ECC error (214) leaves corrupt memory.
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
    """The device is lost to this process; later errors are no input's fault."""

    def __init__(self) -> None:
        super().__init__("the device no longer answers; this process ends and releases its slices")


def is_device_lost(error: BaseException) -> bool:
    """Whether this error of torch makes the device unusable for the rest of the process."""
    message = str(error)
    return (
        isinstance(error, RuntimeError) and "error" in message and any(text in message for text in STICKY_CUDA_ERRORS)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error)


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
BUSY_DEVICE_MESSAGES = ("devices are busy or unavailable", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


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
