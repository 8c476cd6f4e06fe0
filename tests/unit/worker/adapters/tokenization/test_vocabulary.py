"""Jobs with a token that the model lacks are rejected, and no others."""

import pytest

from models.errors import JobError
from worker.adapters.rows import Row
from worker.adapters.tokenization.token_array import token_array
from worker.adapters.tokenization.vocabulary import reject_unknown_tokens
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 9, 1, 1)


def rows(position: int, *parts: list[int]) -> list[Row]:
    job = Job(LEASE, position, {})
    return [Row(job, {"input_ids": token_array(ids)}, len(ids), truncated=False) for ids in parts]


@pytest.mark.parametrize(("size", "rejected"), [(10, [1, 3]), (11, [3]), (12, []), (None, [])])
def test_rejects_jobs_with_an_unknown_token_in_any_row(size: int | None, rejected: list[int]) -> None:
    cut_off = JobError("input_too_long", "too many tokens")
    encoded = [rows(0, [1, 9]), rows(1, [2], [10]), cut_off, rows(3, [11]), rows(4, [])]

    checked = reject_unknown_tokens(encoded, size)

    found = [index for index, entry in enumerate(checked) if isinstance(entry, JobError) and entry is not cut_off]
    assert found == rejected
    assert all(checked[index] is encoded[index] for index in range(5) if index not in rejected)
    assert {checked[index].code for index in rejected} <= {"unknown_token"}  # type: ignore[union-attr]


def test_accepts_nothing() -> None:
    assert reject_unknown_tokens([], 5) == []
