"""Addresses of tables of rows: every filter has its parameter, and nonsense is left out with a sentence."""

import pytest

from models.states import JobOutcome
from producer.results.browsing.row_filter import RowFilter, Verdict
from producer.results.browsing.row_pages import Cursor, Order
from producer.server.pages.batches.row_query import parse


def test_an_empty_address_has_all_rows_by_position() -> None:
    query = parse({})

    assert (query.row_filter, query.cursor, query.problem) == (RowFilter(), Cursor(), None)
    assert not query.is_filtered


@pytest.mark.parametrize(
    ("params", "row_filter"),
    [
        ({"outcome": "failed"}, RowFilter(JobOutcome.FAILED)),
        ({"outcome": "unanswered"}, RowFilter(is_unanswered=True)),
        ({"code": "out_of_memory"}, RowFilter(code="out_of_memory")),
        ({"verdict": "blocked"}, RowFilter(verdict=Verdict.BLOCKED)),
        ({"label": " POSITIVE "}, RowFilter(label="POSITIVE")),
    ],
)
def test_a_filter_is_read(params: dict[str, str], row_filter: RowFilter) -> None:
    query = parse(params)

    assert query.row_filter == row_filter
    assert query.is_filtered


@pytest.mark.parametrize(
    ("params", "cursor"),
    [
        ({"after": "49"}, Cursor(place=49)),
        ({"before": "50"}, Cursor(place=50, is_backward=True)),
        ({"from": "100"}, Cursor(place=99)),
        ({"from": "0"}, Cursor()),
        ({"from": "100", "after": "149"}, Cursor(place=149)),
        ({"order": "newest", "after": "7"}, Cursor(Order.NEWEST, 7)),
        ({"order": "newest", "from": "7"}, Cursor(Order.NEWEST)),
        ({"order": "newest", "outcome": "unanswered"}, Cursor()),
        ({"after": "-1"}, Cursor()),
        ({"after": "9" * 30}, Cursor()),
        ({"after": "٣"}, Cursor()),
    ],
)
def test_a_place_is_read(params: dict[str, str], cursor: Cursor) -> None:
    assert parse(params).cursor == cursor


@pytest.mark.parametrize("params", [{"outcome": "<script>"}, {"verdict": "maybe"}, {"from": "ten"}, {"from": "-1"}])
def test_a_value_that_is_none_is_left_out_with_a_sentence(params: dict[str, str]) -> None:
    query = parse(params)

    assert query.row_filter == RowFilter()
    assert query.problem is not None
    assert not query.is_filtered
