"""Headers that look like data, and ordinary ones that do not."""

import pytest

from producer.readers.text.header_check import find_doubt

ADVICE = "name the columns"
LONG = "the battery lasted for two days and then it did not charge"
LONGER = "a screen that breaks after one fall from a low table is no screen"


@pytest.mark.parametrize(
    ("header", "first_row"),
    [
        (["text", "label"], ["a fine day", "positive"]),
        (["id", "text"], ["1", LONG]),
        (["", "text", "stars"], ["0", LONG, "5"]),  # the index of pandas
        (["country", "2019", "2020"], ["Chile", "1.5", "2"]),
        (["2019", "2020", "2021"], ["1", "2", "3"]),
        (["2024"], ["17"]),
        (["0", "1", "2"], ["5", "6", "7"]),  # columns that nobody named
        (["0"], ["5"]),
        (["0", "1"], ["a", "b"]),
        (["Timestamp", "How satisfied are you with the product overall?"], ["2026-11-01", "5"]),
        (["What did you like most about our product and why?"], [LONG]),
        ([LONG, "stars"], ["no", "5"]),  # a question of a survey
        (["2026-11-01", "2026-11-02"], ["5", "6"]),
        (["text", "text_1"], ["text", "text"]),
        (["good", "positive"], ["bad", "negative"]),
        (["5", "6"], ["", ""]),
        (["5"], ["6", "7"]),
        ([], []),
    ],
)
def test_ordinary_headers_are_no_doubt(header: list[str], first_row: list[str]) -> None:
    assert find_doubt(header, first_row, ADVICE) is None


@pytest.mark.parametrize(
    ("header", "first_row"),
    [
        (["1", LONG, "5"], ["2", LONGER, "4"]),
        ([LONG], [LONGER]),
        (["17", "good", "4.5"], ["23", "bad", "1.0"]),
        (["2026-11-01", "good"], ["2026-11-02", "bad"]),
        (["2026-11-01T10:00:00Z", "", "good"], ["2026-11-02 11:00", "7", "bad"]),
        (["a@example.com", "good"], ["b@example.com", "bad"]),
        (["a.b@mail.example.com", "good"], ["b@example.com", "bad"]),
        (["https://a.example/1", "good"], ["https://a.example/2", "bad"]),
        (["0.5", "0.7"], ["0.1", "0.2"]),
    ],
)
def test_headers_like_the_row_below_are_in_doubt(header: list[str], first_row: list[str]) -> None:
    doubt = find_doubt(header, first_row, ADVICE)

    assert doubt is not None
    assert doubt.startswith("the first line is taken as the names of the columns: ")


def test_a_hostile_cell_is_read_once() -> None:
    cell = "a@" + "x." * 2**20 + " x"  # each dot might begin the end of an address

    assert find_doubt([cell, "1"], ["a", "b"], ADVICE) is None


def test_the_sentence_shows_some_names_and_the_beginning_of_each() -> None:
    assert find_doubt(["9", "<script>\n" + "x" * 60, "3.5", "4"], ["8", "b", "2.5", "7"], ADVICE) == (
        f"the first line is taken as the names of the columns: '9', '<script>\\n{'x' * 21}…', '3.5', …; "
        "if it is data, name the columns"
    )
