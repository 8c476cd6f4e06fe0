"""Ids and names as parts of a path: what can be none is not found, and reaches no other route."""

import pytest

from models.errors import NotFound
from producer.remote import pages


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "../../v1/models", None, 7])
def test_what_can_be_no_part_of_a_path_is_not_found(text: object) -> None:
    with pytest.raises(NotFound, match="there is no batch"):
        pages.quote_id(text)
    with pytest.raises(NotFound, match="there is no pipeline"):
        pages.quote_name(text)


@pytest.mark.parametrize(
    ("text", "quoted"), [("batch_1", "batch_1"), ("a?b#c\n", "a%3Fb%23c%0A"), ("\ud800", "%3F"), ("a.b", "a.b")]
)
def test_everything_else_is_quoted(text: str, quoted: str) -> None:
    assert pages.quote_id(text) == pages.quote_name(text) == quoted
