"""The intake: rows enter as places become free, and long ones wait until they fit."""

from collections.abc import Sequence
from typing import Any

import torch

from worker.adapters.generation.generator import PrefillRows
from worker.adapters.generation.row_intake import RowIntake
from worker.adapters.rows import Row
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 100, 1, 1)
CAPACITY = 40  # tokens


def make_rows(*lengths: int) -> list[Row]:
    return [Row(Job(LEASE, index, {}), None, length, truncated=False) for index, length in enumerate(lengths)]


def prefill(rows: Sequence[Row]) -> PrefillRows:
    width = max(row.length for row in rows)
    return PrefillRows(rows, {"input_ids": torch.zeros(len(rows), width)}, None)


def make_intake(rows: Sequence[Row], *further: Sequence[Row]) -> tuple[RowIntake, list[int]]:
    remaining, asked = list(further), []

    def fetch_more(count: int) -> Sequence[Row]:
        asked.append(count)
        return remaining.pop(0) if remaining else ()

    return RowIntake(rows, fetch_more, lambda width: max(1, CAPACITY // max(1, width)), prefill), asked


def lengths(entering: Any) -> list[int]:
    return [] if entering is None else [row.length for row in entering.rows]


def test_first_rows_enter_as_far_as_they_fit() -> None:
    intake, asked = make_intake(make_rows(10, 10, 10, 10, 10, 5))

    assert lengths(intake.next_rows(0, 0)) == [10, 10, 10, 10]
    assert not intake.has_room(4, 10)
    assert intake.has_room(3, 10)
    assert lengths(intake.next_rows(3, 10)) == [10]
    assert asked == []


def test_further_rows_are_asked_for_as_many_as_are_free() -> None:
    intake, asked = make_intake(make_rows(10, 10, 10, 10), make_rows(10, 8))
    intake.next_rows(0, 0)

    assert lengths(intake.next_rows(2, 10)) == [10, 8]
    assert asked == [2]
    assert intake.next_rows(2, 10) is None


def test_longer_rows_wait_until_they_fit_beside_the_running_ones() -> None:
    intake, _ = make_intake(make_rows(10, 10, 10, 10), make_rows(20, 20))
    intake.next_rows(0, 0)

    assert intake.next_rows(3, 10) is None
    assert lengths(intake.next_rows(1, 10)) == [20]
    assert intake.next_rows(2, 20) is None
    assert lengths(intake.next_rows(0, 0)) == [20]


def test_a_row_longer_than_everything_runs_alone() -> None:
    intake, _ = make_intake(make_rows(100, 1))

    assert lengths(intake.next_rows(0, 0)) == [100]
    assert intake.next_rows(1, 100) is None
    assert lengths(intake.next_rows(0, 0)) == [1]
    assert intake.next_rows(0, 0) is None
