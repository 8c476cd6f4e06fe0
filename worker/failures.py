"""Breakage: a device that answers nothing any more to this process, whatever it is asked. Pure.

To go on would fail every input that follows with the error of one. The process ends instead, and its successor finds
the culprit, if there is one, as with any input that kills.
"""

# After these each further call fails alike until the process is started anew: CUDA Runtime API, cudaError_t, 700 to
# 719. An uncorrectable ECC error (214) leaves memory that nobody should compute with.
LASTING = (
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


class DeviceBroken(Exception):
    """The device is lost to this process; nobody's input is to blame for what it says from here on."""

    def __init__(self) -> None:
        super().__init__("the device answers nothing any more; this process ends, and its work is given back")


def breaks(error: BaseException) -> bool:
    """Whether this error, of torch's, is one that the process can't get over."""
    said = str(error)
    return isinstance(error, RuntimeError) and "error" in said and any(words in said for words in LASTING)
