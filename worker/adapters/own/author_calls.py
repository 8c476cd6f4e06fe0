"""Calls of an author's methods, each with its own copy of the documents that others get as well."""

from collections.abc import Callable, Mapping
from typing import Any

from worker.adapters.own.task_errors import call_author

INPUT, PARAMETERS = "its input", "its parameters"


class AuthorCalls:
    """Calls methods that may change what they get, so that no other input, pass or batch notices.

    changes: the methods that changed an argument, each with its name; gathered once `observe` was called.
    """

    def __init__(self) -> None:
        self.changes: dict[str, str] = {}
        self._is_observed = False

    def observe(self) -> None:
        """Compare the arguments before and after each call from now on, as `batchmill tasks check` does."""
        self._is_observed = True

    def call(self, method: Callable[..., Any], inputs: Any, parameters: Mapping[str, Any], *others: Any) -> Any:
        """Call a method with copies of an input, or of a list of inputs, and of the parameters; raises what it does."""
        copies = copy_document(inputs), copy_document(parameters)
        try:
            return call_author(method, *copies, *others)
        finally:
            self._compare(method, INPUT, inputs, copies[0])
            self._compare(method, PARAMETERS, parameters, copies[1])

    def call_forward(self, method: Callable[..., Any], tensors: Any, parameters: Mapping[str, Any]) -> Any:
        """As `call` for a pass, whose tensors belong to it."""
        copied = copy_document(parameters)
        try:
            return call_author(method, tensors, copied)
        finally:
            self._compare(method, PARAMETERS, parameters, copied)

    def _compare(self, method: Callable[..., Any], noun: str, before: Any, after: Any) -> None:
        if self._is_observed and not _is_equal(before, after):
            self.changes.setdefault(getattr(method, "__name__", "a method"), noun)


def _is_equal(before: Any, after: Any) -> bool:
    try:
        return bool(before == after)
    except Exception:  # such as of a tensor that was put in the place of a number
        return False


def copy_document(document: Any) -> Any:
    """A copy of a JSON document, down to its lists and objects."""
    if isinstance(document, Mapping):
        return {name: copy_document(value) for name, value in document.items()}
    if isinstance(document, list):
        return [copy_document(value) for value in document]
    return document
