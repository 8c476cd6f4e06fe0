"""Pages of the list of batches: both directions, and searches that stop."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.db import Database
from models.errors import UsageError
from producer.batches import batch_pages, views
from producer.batches.batch_pages import Place
from producer.batches.listing import BatchFilter
from tests.factories.batch_rows import execute, insert_batch

DAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def ids(database: Database) -> list[str]:
    """Return nine batches, the newest first, three of them of one time."""
    hours = [0, 1, 2, 3, 3, 3, 4, 5, 6]
    ids = [
        insert_batch(database, 1, name="rare" if hour in (0, 5) else "usual", created_at=DAY + timedelta(hours=hour))
        for hour in hours
    ]
    return ids[::-1]


@pytest.mark.parametrize("page_size", [1, 2, 4, 8])
def test_both_directions_reach_every_batch_once(ids: list[str], database: Database, page_size: int) -> None:
    listed, place = [], None
    while True:
        page = batch_pages.fetch_page(database, BatchFilter(older_than=place), page_size)
        listed += [batch.id for batch in page.batches]
        if page.older is None:
            break
        place = page.older
    back: list[str] = []
    newer: Place | None = batch_pages.place_of(page.batches[0])
    while newer is not None:
        page = batch_pages.fetch_page(database, BatchFilter(newer_than=newer), page_size)
        back = [batch.id for batch in page.batches] + back
        newer = page.newer

    assert listed == ids
    assert back == ids[: len(back)]
    assert len(back) + page_size >= len(ids)


def test_a_page_begins_where_it_did_although_batches_come_and_go(ids: list[str], database: Database) -> None:
    first = batch_pages.fetch_page(database, BatchFilter(), 3)
    insert_batch(database, 1, created_at=DAY + timedelta(days=1))
    execute(database, "DELETE FROM batches WHERE id = :id", id=ids[2])

    assert first.older is not None
    assert [batch.id for batch in batch_pages.fetch_page(database, BatchFilter(older_than=first.older), 3).batches] == (
        ids[3:6]
    )


def test_a_search_stops_and_goes_on(ids: list[str], database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_pages, "MAX_SEARCHED", 4)
    search = BatchFilter(search="rare")

    first = batch_pages.fetch_page(database, search, 5)
    second = batch_pages.fetch_page(database, replace(search, older_than=first.stopped_at), 5)
    third = batch_pages.fetch_page(database, replace(search, older_than=second.stopped_at), 5)

    assert [batch.id for batch in first.batches] == [ids[1]]
    assert first.older is None
    assert first.stopped_at is not None
    assert first.stopped_at[1] == ids[3]
    assert second.batches == ()
    assert [batch.id for batch in third.batches] == [ids[8]]
    assert third.stopped_at is None


def test_a_search_backwards_stops_too(ids: list[str], database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_pages, "MAX_SEARCHED", 4)
    last = batch_pages.place_of(views.get_batch(database, ids[-1]))

    page = batch_pages.fetch_page(database, BatchFilter(search="rare", newer_than=last), 5)

    assert page.batches == ()
    assert page.stopped_at is not None
    assert page.stopped_at[1] == ids[4]


def test_pages_have_no_others_and_an_open_batch_has_its_pace(database: Database) -> None:
    insert_batch(database, 1, tenant="acme")
    insert_batch(database, 1, status="deleting")
    mine = insert_batch(database, 1)

    page = batch_pages.fetch_page(database, BatchFilter(tenant="default", hides_deleting=True), 5)

    assert [batch.id for batch in page.batches] == [mine]
    assert page.batches[0] == views.get_batch(database, mine)


@pytest.mark.parametrize("text", ["", "x", "1", ".", "1.", "x.batch_1", "9" * 30 + ".batch_1", "-1e9.b"])
def test_texts_that_are_no_places_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="place in the list"):
        batch_pages.parse_place(text)


def test_a_place_survives_an_address() -> None:
    place = (DAY + timedelta(microseconds=123_456), "batch_1.x")

    assert batch_pages.parse_place(batch_pages.format_place(place) or "") == place
