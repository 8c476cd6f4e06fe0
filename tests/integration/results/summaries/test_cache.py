"""Summaries are kept until a result lands or is withdrawn."""

import pytest

from models.db import Database
from models.errors import NotFound
from producer.batches import views
from producer.results.summaries import cache
from producer.results.summaries.cache import ResultsState, SummaryCache, find_last_seq
from tests import fake_worker
from tests.factories.batch_rows import insert_batch, update_batch


def state_of(database: Database, batch_id: str) -> ResultsState:
    return ResultsState(find_last_seq(database, batch_id), views.get_batch(database, batch_id).counts)


def test_a_summary_is_read_again_when_results_change(database: Database) -> None:
    batch_id = insert_batch(database, 5)
    kept, readings = SummaryCache(), iter(range(10))

    def get() -> int:
        return kept.get(("x", batch_id), state_of(database, batch_id), lambda: next(readings))

    assert [get(), get()] == [0, 0]
    fake_worker.write_results(database, batch_id, [(0, "empty_text")])
    assert [get(), get()] == [1, 1]
    update_batch(database, batch_id, failed=0)  # a retry withdraws it
    assert get() == 2


def test_only_the_last_ones_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_KEPT", 2)
    state = state_of(database, insert_batch(database, 1))
    kept, readings = SummaryCache(), iter(range(10))

    numbers = [kept.get((name,), state, lambda: next(readings)) for name in ("a", "b", "a", "c", "a", "b")]

    assert numbers == [0, 1, 0, 2, 0, 3]


def test_an_unknown_batch_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        find_last_seq(database, "batch_nope")
