"""Messages of actions travel in a signed cookie."""

import pytest

from producer.server.pages.access import messages
from producer.server.pages.access.messages import LEVELS, FlashMessage, Level

MAX_COOKIE_CHARACTERS = 3_000  # browsers keep 4,096 bytes with the name


@pytest.mark.parametrize("level", LEVELS)
def test_the_session_that_left_it_reads_it(level: Level) -> None:
    message = FlashMessage("412 jobs of “<b>” wait again; \r\n\u202e", level)

    assert messages.unpack(messages.pack(message, "token"), "token") == message


def test_nobody_else_can_make_or_change_one() -> None:
    value = messages.pack(FlashMessage("done"), "token")

    for forged in ("", "x", value[:-1], value + "a", "a" + value[1:], value[64:], "é" * 80):
        assert messages.unpack(forged, "token") is None
    assert messages.unpack(value, "another") is None


def test_a_long_one_is_cut_so_that_browsers_keep_the_cookie() -> None:
    value = messages.pack(FlashMessage("\U0001f600" * 10_000), "token")

    message = messages.unpack(value, "token")
    assert message is not None
    assert message.text.endswith("…")
    assert len(message.text) == messages.MAX_CHARACTERS
    assert len(value) < MAX_COOKIE_CHARACTERS
