"""The `Accept` header: the order of the client's wishes."""

import pytest

from producer.server.requests.accept_header import accepted_types


@pytest.mark.parametrize(
    ("header", "types"),
    [
        ("text/csv", ["text/csv"]),
        ("Text/CSV; charset=utf-8", ["text/csv"]),
        ("application/x-ndjson;q=0.1, text/csv", ["text/csv", "application/x-ndjson"]),
        ("application/json, text/csv;q=0.5, */*;q=0.1", ["application/json", "text/csv", "*/*"]),
        ("text/csv;q=0, application/json", ["application/json"]),
        ("text/csv; q = 0.2 ;x=y, a/b ; Q=0.3", ["a/b", "text/csv"]),
        ("text/csv;q=banana", ["text/csv"]),
    ],
)
def test_the_best_comes_first(header: str, types: list[str]) -> None:
    assert accepted_types(header) == types


def test_a_header_of_nothing_names_no_type() -> None:
    assert not any(accepted_types(""))
