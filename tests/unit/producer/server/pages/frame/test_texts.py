"""What a browser would hide or obey is shown as a sign."""

import json

import pytest

from producer.server.pages.frame.texts import cut, escape_json, sentence, visible, with_code


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


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("there is no pipeline x", "There is no pipeline x"),
        ("'banana' is not a time", "'banana' is not a time"),
        ("reviews has no column text", "reviews has no column text"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_unless_it_begins_with_a_name(message: str, shown: str) -> None:
    assert sentence(message) == shown


def test_what_stands_in_backticks_is_code_and_escaped() -> None:
    assert with_code("send `a <b>` & `c`") == "send <code>a &lt;b&gt;</code> &amp; <code>c</code>"


def test_escaped_json_means_the_same() -> None:
    text = json.dumps({"text": "a\u202eb\u200b\U000e0041 é"}, ensure_ascii=False, indent=1)

    escaped = escape_json(text)

    assert json.loads(escaped) == json.loads(text)
    assert visible(escaped) == escaped
