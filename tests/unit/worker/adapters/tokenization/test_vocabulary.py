"""Jobs with a token or a token type that the model lacks are rejected, and no others."""

from typing import Any

import pytest

from models.errors import JobError
from worker.adapters.rows import Row
from worker.adapters.tokenization.special_tokens import Template, TemplatedRow
from worker.adapters.tokenization.token_array import token_array
from worker.adapters.tokenization.vocabulary import reject_unknown_tokens, reject_unknown_types
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 9, 1, 1)


def rows(position: int, *parts: list[int]) -> list[Row]:
    job = Job(LEASE, position, {})
    return [Row(job, {"input_ids": token_array(ids)}, len(ids), truncated=False) for ids in parts]


def typed_row(position: int, features: Any) -> list[Row]:
    return [Row(Job(LEASE, position, {}), features, 1, truncated=False)]


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


def template(*types: int) -> Template:
    special = tuple(token_array([kind]) for kind in types)
    return Template(special, special, types[1:], "right")


@pytest.mark.parametrize(("count", "rejected"), [(1, [1, 3, 5]), (2, [3]), (3, []), (None, [])])
def test_rejects_jobs_with_an_unknown_type_in_any_row(count: int | None, rejected: list[int]) -> None:
    ids, cut_off = token_array([7]), JobError("input_too_long", "too many tokens")
    encoded = [
        typed_row(0, {"input_ids": ids, "token_type_ids": token_array([0])}),
        typed_row(1, {"input_ids": ids, "token_type_ids": token_array([0])})
        + typed_row(1, {"input_ids": ids, "token_type_ids": token_array([1])}),
        cut_off,
        typed_row(3, TemplatedRow(template(2, 0), ids, (0,))),
        typed_row(4, {"input_ids": ids}),
        typed_row(5, TemplatedRow(template(0, 0, 1), ids, (0, 0))),
        typed_row(6, TemplatedRow(template(0, 0), ids, (0,))),
    ]

    checked = reject_unknown_types(encoded, count)

    found = [index for index, entry in enumerate(checked) if isinstance(entry, JobError) and entry is not cut_off]
    assert found == rejected
    assert all(checked[index] is encoded[index] for index in range(7) if index not in rejected)
    assert {checked[index].code for index in rejected} <= {"unknown_token_type"}  # type: ignore[union-attr]
