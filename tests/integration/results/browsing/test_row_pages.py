"""Pages of rows never miss or repeat a row, and a search without an index stops after a bounded number of rows."""

from collections.abc import Mapping
from contextlib import closing
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import text

from models.db import Database
from models.dialects.fragments import SQL_FRAGMENTS
from models.documents import to_json
from models.states import JobOutcome
from producer.results.browsing import row_filter, row_pages, row_preview
from producer.results.browsing.row_filter import RowFilter, Verdict
from producer.results.browsing.row_pages import Cursor, Order, RowPage
from tests.factories.batch_rows import execute, insert_batch
from tests.fake_worker import write_results

ROWS = 30

FILL = (
    "INSERT INTO jobs (batch_id, position, input) SELECT :batch_id, n, '{}' FROM generate_series(1, 20000) AS n",
    """INSERT INTO results (batch_id, position, seq, status, attempts, truncated)
       SELECT :batch_id, n, n + 1, 'succeeded', 1, false FROM generate_series(0, 20000) AS n""",
    "ANALYZE jobs",
    "ANALYZE results",
)


def positions(page: RowPage) -> list[int]:
    return [row.position for row in page.rows]


def walk(database: Database, batch_id: str, wanted: RowFilter, order: Order, limit: int = 4) -> list[list[int]]:
    """All pages, from the first to the last."""
    pages, cursor = [], Cursor(order)
    while True:
        page = row_pages.find_rows(database, batch_id, wanted, cursor, limit)
        pages.append(positions(page))
        if page.next_place is None:
            return pages
        cursor = Cursor(order, page.next_place)


def flat(pages: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(pages))


@pytest.fixture
def batch_id(database: Database) -> str:
    """A batch of which every third job failed with one of two codes, and the last five are unanswered."""
    batch_id = insert_batch(database, ROWS)
    outputs: list[tuple[int, Any]] = [
        (place, {"label": "A" if place % 2 else "B", "score": 0.5} if place % 3 else f"code_{place % 2}")
        for place in reversed(range(ROWS - 5))
    ]
    write_results(database, batch_id, outputs)
    return batch_id


ANSWERED = list(range(ROWS - 5))
FAILED = [place for place in ANSWERED if place % 3 == 0]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (RowFilter(), ANSWERED),
        (RowFilter(JobOutcome.FAILED), FAILED),
        (RowFilter(JobOutcome.SUCCEEDED), [place for place in ANSWERED if place % 3]),
        (RowFilter(code="code_1"), [place for place in FAILED if place % 2]),
        (RowFilter(label="A"), [place for place in ANSWERED if place % 3 and place % 2]),
        (RowFilter(JobOutcome.EXPIRED), []),
        (RowFilter(is_unanswered=True), list(range(ROWS - 5, ROWS))),
        (RowFilter(code="'; DROP TABLE jobs"), []),
    ],
)
def test_the_pages_have_each_row_once(
    database: Database, batch_id: str, wanted: RowFilter, expected: list[int]
) -> None:
    by_position = walk(database, batch_id, wanted, Order.POSITION)

    assert flat(by_position) == expected
    assert all(len(page) == 4 for page in by_position[:-1])


@pytest.mark.parametrize("wanted", [RowFilter(), RowFilter(JobOutcome.FAILED), RowFilter(label="A")])
def test_the_newest_come_first(database: Database, batch_id: str, wanted: RowFilter) -> None:
    newest = walk(database, batch_id, wanted, Order.NEWEST)

    # They landed in the reverse order of their positions.
    assert flat(newest) == flat(walk(database, batch_id, wanted, Order.POSITION))


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("wanted", [RowFilter(), RowFilter(JobOutcome.FAILED), RowFilter(code="code_0")])
def test_the_way_back_has_the_same_pages(database: Database, batch_id: str, wanted: RowFilter, order: Order) -> None:
    first = row_pages.find_rows(database, batch_id, wanted, Cursor(order), 2)
    second = row_pages.find_rows(database, batch_id, wanted, Cursor(order, first.next_place), 2)

    back = row_pages.find_rows(database, batch_id, wanted, Cursor(order, second.previous_place, is_backward=True), 2)

    assert positions(back) == positions(first)
    assert first.previous_place is None
    assert back.next_place == first.next_place


def test_a_search_stops_and_goes_on_where_it_stopped(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_filter, "MAX_SCANNED_DOCUMENTS", 3)
    wanted = RowFilter(label="A")

    first = row_pages.find_rows(database, batch_id, wanted, Cursor(), 10)

    assert (positions(first), first.is_cut, first.next_place) == ([1], True, 2)
    assert flat(walk(database, batch_id, wanted, Order.POSITION, 10)) == [
        place for place in ANSWERED if place % 3 and place % 2
    ]


def test_the_search_for_unanswered_jobs_stops_too(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pages, "MAX_SCANNED_ROWS", 3)

    pages = walk(database, batch_id, RowFilter(is_unanswered=True), Order.POSITION, 10)

    assert flat(pages) == list(range(ROWS - 5, ROWS))
    assert len(pages) > 1


def test_unanswered_jobs_are_looked_for_after_slices_that_are_done(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pages, "MAX_SCANNED_ROWS", 10)
    execute(database, "UPDATE slices SET state = 'done' WHERE start_position < 24")

    page = row_pages.find_rows(database, batch_id, RowFilter(is_unanswered=True), Cursor(), 10)

    assert positions(page) == list(range(ROWS - 5, ROWS))
    assert all(row.status is None for row in page.rows)


@pytest.mark.parametrize(
    "output",
    [
        {"labels": ["A", "B"], "scores": [0.9, 0.1]},
        [{"label": "A", "score": 0.9}],
        [{"token_str": "A", "token": 1, "score": 0.9}],
        [{"entity_group": "B"}, {"entity_group": "A", "word": "w"}],
        [{"entity": "A"}],
    ],
)
def test_a_label_is_found_in_every_form_of_output(database: Database, output: Any) -> None:
    batch_id = insert_batch(database, 6)
    others: list[tuple[int, Any]] = [(1, [1, "A"]), (2, {"labels": "A"}), (3, [["A"]]), (4, {"label": ["A"]})]
    write_results(database, batch_id, [(0, output), *others])

    page = row_pages.find_rows(database, batch_id, RowFilter(label="A"), Cursor(), 10)

    assert positions(page) == [0]


@pytest.mark.parametrize("verdict", Verdict)
def test_rows_are_found_by_what_a_guard_did(database: Database, batch_id: str, verdict: Verdict) -> None:
    documents = {place: [{"guard": "g", "action": action}] for place, action in enumerate(Verdict)}
    for place, document in documents.items():
        statement = "UPDATE results SET guards = {value} WHERE batch_id = :id AND position = :place"
        value = "CAST(:document AS jsonb)" if database.engine.dialect.name == "postgresql" else ":document"
        execute(database, statement.format(value=value), id=batch_id, place=place, document=to_json(document))

    page = row_pages.find_rows(database, batch_id, RowFilter(verdict=verdict), Cursor(), 10)

    assert positions(page) == [list(Verdict).index(verdict)]


def test_a_row_is_found_by_its_id(database: Database, batch_id: str) -> None:
    execute(database, "UPDATE jobs SET custom_id = 'r-7' WHERE position = 7")

    assert positions(row_pages.find_by_custom_id(database, batch_id, "r-7", 10)) == [7]
    assert positions(row_pages.find_by_custom_id(database, batch_id, "r-8", 10)) == []


def test_large_documents_are_cut(database: Database) -> None:
    inputs: list[Mapping[str, Any]] = [{"text": "x" * 100_000}]
    batch_id = insert_batch(database, inputs)
    write_results(database, batch_id, [(0, [{"generated_text": "y" * 100_000}])])

    [row] = row_pages.find_rows(database, batch_id, RowFilter(), Cursor(), 10).rows

    assert len(row.input_text) == len(row.output_text or "") == 20_000
    assert row.input_length > 100_000
    assert (row.output_length or 0) > 100_000


def test_an_unknown_batch_has_no_rows(database: Database) -> None:
    assert row_pages.find_rows(database, "batch_none", RowFilter(), Cursor(), 10) == RowPage(())
    assert row_pages.find_rows(database, "batch_none", RowFilter(is_unanswered=True), Cursor(), 10) == RowPage(())


def test_labels_that_are_numbers_or_truth_values_are_found(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    outputs: list[Any] = [{"label": 1}, [{"label": 1.5}], {"label": True}, {"label": "text"}]
    write_results(database, batch_id, list(enumerate(outputs)))

    def find(label: str) -> list[int]:
        return positions(row_pages.find_rows(database, batch_id, RowFilter(label=label), Cursor(), 10))

    assert [find(label) for label in ("1.5", "true", "text", "false")] == [[1], [2], [3], []]
    assert 0 in find("1")


def test_postgresql_reads_the_rows_of_a_page_by_their_index(postgresql_url: str) -> None:
    """Not all results of the batch, to join them with the jobs of the page."""
    query = str(row_preview._typed_query("postgresql", SQL_FRAGMENTS["postgresql"].in_numbers).element)
    params = {"numbers": "1,500,900", "most": 9, "short": 9}
    with closing(Database(postgresql_url)) as database:
        batch_id = insert_batch(database, 1)
        for statement in FILL:
            execute(database, statement, batch_id=batch_id)
        with database.read() as connection:
            plan = "\n".join(connection.scalars(text(f"EXPLAIN {query}"), {"batch_id": batch_id, **params}))

    assert plan.count("= ANY") == 2, plan
    assert "Seq Scan" not in plan
    assert "Hash" not in plan
