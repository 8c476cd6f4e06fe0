"""Names that are given to the columns of a file without a header."""

from typing import Any

import pytest

from models.errors import UsageError
from producer.readers import given_names
from producer.readers.given_names import parse_names


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("text,label", ("text", "label")),
        (" text , label ", ("text", "label")),
        ('id,"a, b"', ("id", "a, b")),
        ("text", ("text",)),
        (["text", "a, b"], ("text", "a, b")),
        (("text",), ("text",)),
        ("text,label\n", ("text", "label")),
        ('id,"a\nb"', ("id", "a\nb")),
    ],
)
def test_a_text_or_a_list_is_read(given: Any, names: tuple[str, ...]) -> None:
    assert parse_names(given) == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "column_names has no name; write one for each column, such as text,label"),
        ([], "column_names has no name"),
        ("text,,label", "column name 2 is empty"),
        (["text", " "], "column name 2 is empty"),
        ("text,label,text", "the column name 'text' is given twice"),
        ('"text', "a quote in column_names is not closed"),
        ("text\nlabel", "column_names must be in one line"),
        (7, "column_names must be a list of texts"),
        (["text", 7], "column_names must be a list of texts"),
        ({"text": "a"}, "column_names must be a list of texts"),
        (b"text", "column_names must be a list of texts"),
        ({"text", "label"}, "column_names must be a list of texts"),  # which has no order
        (["text", "a\0"], "column name 2 has a NUL character"),
        (["\ud800"], "column name 1 has a NUL character or half a surrogate pair"),
        (["x" * 201], "a column name has 201 characters; at most 200 are taken"),
        ([str(n) for n in range(2_001)], "there are 2,001 column names; at most 2,000 are taken"),
    ],
)
def test_what_is_wrong_is_explained(given: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_names(given)

    assert str(caught.value).startswith(message)
    assert caught.value.param == given_names.PARAM
