"""What a browser would hide or obey is shown as a sign."""

import pytest

from producer.server.pages.frame.texts import cut, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b[31mred\x00", "␛[31mred␀"),
        ("a\u202eb\u200bc\ufeff", "a⟨U+202E⟩b⟨U+200B⟩c⟨U+FEFF⟩"),
        ("windows\r\nlines\r", "windows\nlines␍"),
        ("\ud800", "⟨U+D800⟩"),
        ("👩\u200d💻 é שלום", "👩\u200d💻 é שלום"),
        ("hidden \U000e0041", "hidden ⟨U+E0041⟩"),
    ],
)
def test_unseen_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(text).encode()


def test_a_long_text_is_cut() -> None:
    assert cut("abc " * 100, 8) == "abc abc…"
    assert cut("abc", 3) == "abc"
    assert cut(None, 10) == "None"
