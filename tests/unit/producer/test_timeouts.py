import threading

import pytest

from producer.timeouts import call_within


def test_the_call_s_value_or_error_is_passed_on() -> None:
    assert call_within(30.0, lambda: "a value", "a call") == "a value"
    with pytest.raises(KeyError, match="missing"):
        call_within(30.0, lambda: {}["missing"], "a call")


def test_a_call_that_takes_too_long_is_left_behind() -> None:
    release = threading.Event()

    with pytest.raises(TimeoutError, match=r"nothing came for 0\.05 s"):
        call_within(0.05, lambda: release.wait(60), "a slow call")

    [thread] = [thread for thread in threading.enumerate() if thread.name == "a slow call"]
    release.set()
    thread.join()
