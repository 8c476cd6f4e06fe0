"""Bisection runs work on many items at once and, when that fails, finds the items at fault."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Error = TypeVar("Error", bound=BaseException)


def isolate_failures(
    work: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    reraise: tuple[type[BaseException], ...] = (),
) -> list[tuple[Item, Result | Exception]]:
    """Pair each item with its result, or with the exception that it alone raises.

    work: returns one result for each item, in order; has no effect when it raises.
    reraise: errors that are no item's fault; they are raised instead of bisected.
    """
    if not items:
        return []
    try:
        return list(zip(items, work(items), strict=True))
    except BaseException as error:  # a panic in a tokenizer written in Rust is not an Exception
        return bisect_failed(error, work, items, reraise)


def bisect_failed(
    error: BaseException,
    work: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    reraise: tuple[type[BaseException], ...] = (),
) -> list[tuple[Item, Result | Exception]]:
    """Continue `isolate_failures` for items whose `work` has already raised `error`."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, *reraise)):
        raise error
    if len(items) == 1:
        failure = strip_tracebacks(error) if isinstance(error, Exception) else RuntimeError(type(error).__name__)
        return [(items[0], failure)]
    middle = len(items) // 2
    return isolate_failures(work, items[:middle], reraise) + isolate_failures(work, items[middle:], reraise)


def strip_tracebacks(error: Error) -> Error:
    """Remove the tracebacks of an error and its causes, so that it can be kept.

    Their frames hold inputs, and often the error itself. Such cycles stay until Python's collector runs.
    """
    chain: list[BaseException | None] = [error]
    while chain:
        if (link := chain.pop()) is not None and link.__traceback__ is not None:
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__]
    return error
