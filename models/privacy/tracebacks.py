"""Tracebacks for logs and terminals that show an error's origin without user data.

Python prints each error's message, and drivers, parsers and models quote rows, inputs and parameters in theirs. Only
known messages are printed: our own, the system's, and a driver's first line if it can quote no value.
"""

import sys
import threading
import traceback
from collections.abc import Iterator

from models.errors import BatchmillError

CODE_ERRORS = (AttributeError, NameError, ImportError)  # their messages name code, never data
CHAIN_MESSAGES = {
    True: "The above exception was the direct cause of the following exception:",
    False: "During handling of the above exception, another exception occurred:",
}


def format_error(error: BaseException) -> str:
    """Format an error with its frames, preceded by its causes, without a final newline."""
    parts = []
    for link, came_of in _exception_chain(error):
        frames = "".join(traceback.format_tb(link.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{_name_and_message(link)}")
        parts += [] if came_of is None else [CHAIN_MESSAGES[came_of]]
    return "\n\n".join(parts)


def safe_message(error: BaseException) -> str | None:
    """Return the printable part of an error's message; None if it may quote user data."""
    if isinstance(error, BatchmillError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror
    if isinstance(error, CODE_ERRORS):
        return str(error)
    return _driver_message(error)


def install_excepthooks() -> None:
    """Install hooks that print uncaught errors of the process and its threads with `format_error`."""
    sys.excepthook = lambda _kind, error, _trace: print_error(error)
    threading.excepthook = lambda ended: print_error(ended.exc_value)


def print_error(error: BaseException | None) -> None:
    """Print an uncaught error, except those that only end a thread or process."""
    if error is not None and not isinstance(error, SystemExit) and sys.stderr is not None:
        sys.stderr.write(f"{format_error(error)}\n")


def _exception_chain(error: BaseException) -> Iterator[tuple[BaseException, bool | None]]:
    """Yield causes first; the flag is whether the error is the next one's explicit cause, None for the last."""
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
    message = safe_message(error)
    return f"{name}: {message}" if message else name


def _driver_message(error: BaseException) -> str | None:
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy.exc import DBAPIError

    from models.dialects import driver_errors

    return driver_errors.safe_message(error) if isinstance(error, DBAPIError) else None
