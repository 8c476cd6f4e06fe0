"""Bisection: work on many things at once, and when that fails find which of them is to blame."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def isolate(
    work: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[tuple[Item, Result | Exception]]:
    """Each item with its result from `work(items)`; where that raises, by halves.

    So a culprit gets its exception and its neighbours their results. `work` must give one result for each item, in
    order, and have no effect when it raises.
    """
    if not items:
        return []
    try:
        return list(zip(items, work(items), strict=True))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a tokenizer written in Rust is no Exception
        if len(items) == 1:
            return [(items[0], error if isinstance(error, Exception) else RuntimeError(type(error).__name__))]
        middle = len(items) // 2
        return isolate(work, items[:middle]) + isolate(work, items[middle:])
