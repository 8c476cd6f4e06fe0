"""Load errors are attributed to the model's files or to this machine; pure.

A problem of the machine, such as a missing device, package or memory, is temporary or can be fixed there. It must never
end a batch, because other machines may serve it. Only an error that the content explains counts against the model.
"""

import errno

from models.errors import BatchmillError, LoadFailed, ModelError, Unreachable
from models.foreign_errors import first_line
from worker.failures import exception_chain, is_device_error, is_device_lost, is_out_of_memory, is_transient

OUT_OF_MEMORY_PHRASES = ("out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")


def classify(error: BaseException, model: str, revision: str | None = None) -> BatchmillError:
    """Return the error to raise when loading `model` at `revision` raised `error`.

    A ModelError names the revision that was tried. An unknown exception counts against the content, because the same
    bytes fail with the same code on any machine. Without a revision, the content is unknown and the machine is blamed.
    """
    if isinstance(error, ModelError):
        error.revision = error.revision or revision
        return error
    if isinstance(error, (LoadFailed, Unreachable)):
        return error
    if isinstance(error, BatchmillError):
        return LoadFailed(str(error))
    if problem := _machine_problem_in_chain(error):
        return LoadFailed(f"{model} can't be loaded on this machine now: {problem}")
    message = f"{model} can't be loaded: {type(error).__name__}: {first_line(error)}"
    if revision is None:
        return LoadFailed(message)
    model_error = ModelError(message)
    model_error.revision = revision
    return model_error


def _machine_problem_in_chain(error: BaseException) -> str | None:
    """Return the machine's problem that the error or one of its causes shows; None = no such problem."""
    for depth, cause in enumerate(exception_chain(error)):
        # Libraries also look for optional files, so a missing file among the causes proves nothing.
        if depth and isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOTDIR):
            continue
        if depth and isinstance(cause, ImportError):
            continue
        if problem := _machine_problem(cause):
            return problem
    return None


def _machine_problem(error: BaseException) -> str | None:
    text = str(error).lower()
    if is_out_of_memory(error) or any(phrase in text for phrase in OUT_OF_MEMORY_PHRASES):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or first_line(error)
    if isinstance(error, ImportError):
        return f"a package is missing ({first_line(error)})"
    if is_device_error(error) or is_device_lost(error):
        return f"its device does not work: {first_line(error)}"
    return f"a resource is busy or unreachable ({first_line(error)})" if is_transient(error) else None
