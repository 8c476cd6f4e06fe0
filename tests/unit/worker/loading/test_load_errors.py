"""Load errors: what speaks against a model's content, and what is this machine's trouble."""

import errno

import pytest

from models.errors import BatchmillError, LoadFailed, MissingModel, ModelError, SettingsError, Unreachable
from worker.loading.load_errors import classify

REVISION = "a" * 40


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's is."""


def chained(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EACCES, "Permission denied"),
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        MemoryError(),
        OutOfMemoryError("of the device"),
        RuntimeError("[enforce fail] can't allocate memory"),
        RuntimeError("CUDA driver initialization failed"),
        AssertionError("Torch not compiled with CUDA enabled"),
        RuntimeError("Unable to determine the device handle: GPU is lost"),
        ConnectionResetError("without a number"),
        chained(ValueError("the probe failed"), RuntimeError("CUDA error: device-side assert triggered")),
        ModuleNotFoundError("No module named 'sacremoses'"),
        chained(ValueError("can't load the configuration"), OSError(errno.EIO, "Input/output error")),
        chained(OSError("can't load the tokenizer"), MemoryError()),
    ],
)
def test_trouble_of_the_machine_is_no_model_s_fault(error: Exception) -> None:
    found = classify(error, "made/model", REVISION)

    assert isinstance(found, LoadFailed)
    assert str(found).startswith("made/model can't be loaded on this machine now: ")
    assert found.retryable


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("no such thing"),
        TypeError("not a number"),
        OSError("it has no weights"),
        RuntimeError("size mismatch"),
        chained(ValueError("bad"), FileNotFoundError(errno.ENOENT, "optional")),
    ],
)
def test_anything_else_speaks_against_the_content_that_was_tried(error: Exception) -> None:
    found = classify(error, "made/model", REVISION)

    assert isinstance(found, ModelError)
    assert found.revision == REVISION
    assert str(found) == f"made/model can't be loaded: {type(error).__name__}: {error}"


def test_without_a_revision_nothing_is_known_of_the_content() -> None:
    assert isinstance(classify(AttributeError("no such thing"), "made/model"), LoadFailed)


@pytest.mark.parametrize("error", [LoadFailed("no device"), Unreachable("the Hub is away"), MissingModel("gone")])
def test_what_has_a_class_keeps_it(error: BatchmillError) -> None:
    assert classify(error, "made/model", REVISION) is error


def test_a_model_s_own_error_is_given_the_revision() -> None:
    error = classify(ModelError("another head"), "made/model", REVISION)

    assert isinstance(error, ModelError)
    assert error.revision == REVISION


def test_a_setting_speaks_against_no_model() -> None:
    assert isinstance(classify(SettingsError("no such device"), "made/model", REVISION), LoadFailed)
