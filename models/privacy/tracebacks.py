"""Tracebacks for logs and terminals: where an error comes from, and nothing of what it happened over.

Python prints each error's message. Those of drivers, parsers and models quote rows, inputs and parameters, so that only
messages of known kinds are printed: our own, a driver's first line where it can quote no value, the system's.
"""

import sys
import threading
import traceback
from collections.abc import Iterator

from models.errors import BatchmillError

CODE_ERRORS = (AttributeError, NameError, ImportError)  # their messages name what is in code
CHAIN_MESSAGES = {
    True: "The above exception was the direct cause of the following exception:",
    False: "During handling of the above exception, another exception occurred:",
}


def format_error(error: BaseException) -> str:
    """An error with its frames, after those that it came of, without a newline at the end."""
    parts = []
    for link, came_of in _exception_chain(error):
        frames = "".join(traceback.format_tb(link.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{_name_and_message(link)}")
        parts += [] if came_of is None else [CHAIN_MESSAGES[came_of]]
    return "\n\n".join(parts)


def safe_message(error: BaseException) -> str | None:
    """What may be printed of an error's message; None where it may quote somebody's data."""
    if isinstance(error, BatchmillError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror
    if isinstance(error, CODE_ERRORS):
        return str(error)
    return _driver_message(error)


def install_excepthooks() -> None:
    """From now on an error that ends this process or a thread of it is printed as `format_error` has it."""
    sys.excepthook = lambda _kind, error, _trace: print_error(error)
    threading.excepthook = lambda ended: print_error(ended.exc_value)


def print_error(error: BaseException | None) -> None:
    """Print an error that nobody caught; one that only ends a thread or process is none."""
    if error is not None and not isinstance(error, SystemExit) and sys.stderr is not None:
        sys.stderr.write(f"{format_error(error)}\n")


def _exception_chain(error: BaseException) -> Iterator[tuple[BaseException, bool | None]]:
    """The error's causes first, each with whether it is the next one's stated cause; None for the last."""
    links: list[tuple[BaseException, bool | None]] = [(error, None)]
    seen = {id(error)}
    while True:
        last = links[-1][0]
        stated = last.__cause__ is not None
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or id(before) in seen:
            return iter(reversed(links))
        seen.add(id(before))
        links.append((before, stated))


def _name_and_message(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said = safe_message(error)
    return f"{name}: {said}" if said else name


def _driver_message(error: BaseException) -> str | None:
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy.exc import DBAPIError

    from models import driver_errors

    return driver_errors.safe_message(error) if isinstance(error, DBAPIError) else None
