"""Bisection: work on many things at once, and when that fails find which of them is to blame."""

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
    """Each item with its result from `work(items)`; where that raises, by halves.

    So a culprit gets its exception and its neighbours their results. `work` must give one result for each item, in
    order, and have no effect when it raises. What is in `through` is nobody's fault and is raised.
    """
    if not items:
        return []
    try:
        return list(zip(items, work(items), strict=True))
    except BaseException as error:  # a panic in a tokenizer written in Rust is no Exception
        return bisect_failed(error, work, items, reraise)


def bisect_failed(
    error: BaseException,
    work: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    reraise: tuple[type[BaseException], ...] = (),
) -> list[tuple[Item, Result | Exception]]:
    """What `isolate` makes of items that have raised `error` together."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, *reraise)):
        raise error
    if len(items) == 1:
        return [
            (items[0], strip_tracebacks(error) if isinstance(error, Exception) else RuntimeError(type(error).__name__))
        ]
    middle = len(items) // 2
    return isolate_failures(work, items[:middle], reraise) + isolate_failures(work, items[middle:], reraise)


def strip_tracebacks(error: Error) -> Error:
    """The same error without the frames that it went through, for whoever keeps it.

    They hold inputs, and often the error itself: such circles stay until Python happens to look for them.
    """
    behind: list[BaseException | None] = [error]
    while behind:
        if (each := behind.pop()) is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            behind += [each.__cause__, each.__context__]
    return error
