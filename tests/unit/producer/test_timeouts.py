"""A call is waited for so long, and what it raises is raised."""

import threading

import pytest

from producer.timeouts import call_within


def test_what_the_call_gives_or_raises_is_passed_on() -> None:
    assert call_within(30.0, lambda: "found", "a call") == "found"
    with pytest.raises(KeyError, match="missing"):
        call_within(30.0, lambda: {}["missing"], "a call")


def test_a_call_that_takes_too_long_is_left_behind() -> None:
    ended = threading.Event()

    with pytest.raises(TimeoutError, match=r"nothing came for 0\.05 s"):
        call_within(0.05, lambda: ended.wait(60), "a slow call")

    assert [thread for thread in threading.enumerate() if thread.name == "a slow call"]
    ended.set()
