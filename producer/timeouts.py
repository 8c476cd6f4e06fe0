"""Timeouts for calls that have none, such as a name lookup or a package's read of a remote file."""

import errno
import queue
from collections.abc import Callable
from threading import Thread
from typing import TypeVar, cast

Value = TypeVar("Value")


def call_within(seconds: float, call: Callable[[], Value], thread_name: str) -> Value:
    """The call's value; raises what the call raises, and TimeoutError if it takes longer.

    A thread of this name makes the call; after a timeout it is left running.
    """
    outcomes: queue.SimpleQueue[tuple[Value | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put((call(), None))
        except BaseException as error:  # any error at all, because the caller's thread is waiting for it
            outcomes.put((None, error))

    Thread(target=work, daemon=True, name=thread_name).start()
    try:
        value, error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(errno.ETIMEDOUT, f"nothing came for {seconds:g} s") from None
    if error is not None:
        raise error
    return cast("Value", value)
