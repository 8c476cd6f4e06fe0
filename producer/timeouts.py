"""Timeouts for calls that know none of their own, such as a name's lookup or a package's reading of a remote file."""

import errno
import queue
from collections.abc import Callable
from threading import Thread
from typing import TypeVar, cast

Value = TypeVar("Value")


def call_within(seconds: float, call: Callable[[], Value], thread_name: str) -> Value:
    """The call's value; raises what the call raises, and TimeoutError where it takes longer.

    A thread of this name makes the call, and is left behind where it takes too long.
    """
    done: queue.SimpleQueue[tuple[Value | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # whatever it is, the caller's thread is waiting for it
            done.put((None, error))

    Thread(target=work, daemon=True, name=thread_name).start()
    try:
        value, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(errno.ETIMEDOUT, f"nothing came for {seconds:g} s") from None
    if error is not None:
        raise error
    return cast("Value", value)
