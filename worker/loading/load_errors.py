"""Load errors: whether a model's files are at fault, or this machine. Pure.

A machine's trouble (no device, no memory, a file system error, a missing package) passes or is mended there. It must
never end a batch, since other machines may serve it. Only an error that the content explains speaks against the model.
"""

import errno
from collections.abc import Iterator

from models.errors import BatchmillError, LoadFailed, ModelError, Unreachable, first_line
from worker.failures import out_of_memory

# What drivers and allocators say. torch has one or two classes for all of it.
DEVICE_TROUBLE = (
    "cuda", "nvidia", "cudnn", "cublas", "nccl", "hip error", "mps backend", "no kernel image", "devices are busy",
    "device-side", "peer access",
)  # fmt: skip
LONGEST_CHAIN = 10
MEMORY_TROUBLE = ("out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")


def classified(error: BaseException, model: str, revision: str | None = None) -> BatchmillError:
    """What to raise where loading `model` at `revision` raised `error`.

    A ModelError names the revision that was tried. An exception of no known kind speaks against the content, because
    whoever loads these bytes with this code meets it again; without a revision nothing is known of the content.
    """
    if isinstance(error, ModelError):
        error.revision = error.revision or revision
        return error
    if isinstance(error, (LoadFailed, Unreachable)):
        return error
    if isinstance(error, BatchmillError):
        return LoadFailed(str(error))
    if trouble := _trouble_here(error):
        return LoadFailed(f"{model} can't be loaded on this machine now: {trouble}")
    unusable = f"{model} can't be loaded: {type(error).__name__}: {first_line(error)}"
    if revision is None:
        return LoadFailed(unusable)
    found = ModelError(unusable)
    found.revision = revision
    return found


def _trouble_here(error: BaseException) -> str | None:
    """What of this machine is in the way; None where neither the error nor what led to it says so."""
    for place, cause in enumerate(_causes(error)):
        # Libraries look for files that need not be there, so what led to an error may be a missing file.
        if place and isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOTDIR):
            continue
        if place and isinstance(cause, ImportError):
            continue
        if trouble := _trouble(cause):
            return trouble
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def _trouble(error: BaseException) -> str | None:
    text = str(error).lower()
    if out_of_memory(error) or any(words in text for words in MEMORY_TROUBLE):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or first_line(error)
    if isinstance(error, ImportError):
        return f"a package is missing ({first_line(error)})"
    if isinstance(error, (RuntimeError, AssertionError)) and any(words in text for words in DEVICE_TROUBLE):
        return f"its device does not work: {first_line(error)}"
    return None
