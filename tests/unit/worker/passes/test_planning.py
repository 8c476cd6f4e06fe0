"""Planning: every row once, within the budget, and with little padding."""

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from models.documents import to_json
from worker.adapters.rows import MAX_PADDING_FACTOR, MicroBatch, Row
from worker.leasing.leases import Job, Lease
from worker.passes.planning import MicroBatchPlanner, group_duplicates, plan_micro_batches

LEASE = Lease(1, "batch", 0, 10_000, 1, 1)
OTHER_BATCH = Lease(2, "other", 0, 10_000, 1, 1)

inputs = st.dictionaries(
    st.sampled_from(["text", "other"]),
    st.one_of(st.sampled_from(["", "a", "1", "[]", '"a"']), st.sampled_from([1, 1.0, True, None, [], ["a"]])),
    max_size=2,
)
budgets = st.integers(1, 300)
most_rows = st.integers(1, 40)


def row(position: int, length: int, key: str | None = None, *, packed: bool = False) -> Row:
    return Row(Job(LEASE, position, {}), None, length, truncated=False, key=key, packed=packed)


def lengths(batches: list[MicroBatch]) -> list[list[int]]:
    return [[row.length for row in batch.rows] for batch in batches]


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    drawn = draw(st.lists(st.tuples(st.integers(0, 100), st.sampled_from([None, "short", "long"])), max_size=80))
    return [row(position, length, key) for position, (length, key) in enumerate(drawn)]


class TestPlan:
    @given(row_lists(), budgets, most_rows)
    def test_plans_every_row_exactly_once(self, rows: list[Row], budget: int, max_rows: int) -> None:
        planned = [row.job.position for batch in plan_micro_batches(rows, budget, max_rows) for row in batch.rows]

        assert Counter(planned) == Counter(row.job.position for row in rows)

    @given(row_lists(), budgets, most_rows)
    def test_keeps_the_budget_unless_a_row_is_alone(self, rows: list[Row], budget: int, max_rows: int) -> None:
        for batch in plan_micro_batches(rows, budget, max_rows):
            assert batch.padded_tokens <= budget or len(batch.rows) == 1
            assert 1 <= len(batch.rows) <= max_rows

    @given(row_lists(), budgets, most_rows)
    def test_never_mixes_keys(self, rows: list[Row], budget: int, max_rows: int) -> None:
        for batch in plan_micro_batches(rows, budget, max_rows):
            assert len({row.key for row in batch.rows}) == 1

    @given(row_lists(), budgets, most_rows)
    def test_runs_the_longest_first_within_a_key(self, rows: list[Row], budget: int, max_rows: int) -> None:
        planned = plan_micro_batches(rows, budget, max_rows)

        for key in {row.key for row in rows}:
            planned_rows = [row.length for batch in planned for row in batch.rows if row.key == key]
            assert planned_rows == sorted(planned_rows, reverse=True)

    @given(row_lists(), budgets, most_rows)
    @example([row(0, 0), row(1, 0)], 1, 2)
    def test_fills_each_micro_batch(self, rows: list[Row], budget: int, max_rows: int) -> None:
        planned = plan_micro_batches(rows, budget, max_rows)

        for batch, following in pairwise(planned):
            if batch.rows[0].key == following.rows[0].key:
                one_more = (len(batch.rows) + 1) * batch.width
                assert len(batch.rows) == max_rows or one_more > budget

    def test_plans_nothing_for_nothing(self) -> None:
        assert plan_micro_batches([], 100, 10) == []

    def test_plans_a_row_longer_than_the_budget_alone(self) -> None:
        rows = [row(0, 10), row(1, 500), row(2, 10)]

        assert lengths(plan_micro_batches(rows, 100, 10)) == [[500], [10, 10]]

    def test_takes_no_more_rows_than_are_allowed_however_short(self) -> None:
        rows = [row(position, 1) for position in range(10)]

        assert [len(batch.rows) for batch in plan_micro_batches(rows, 1000, 3)] == [3, 3, 3, 1]

    def test_leaves_the_window_as_it_was(self) -> None:
        rows = [row(0, 1), row(1, 9), row(2, 5)]

        plan_micro_batches(rows, 10, 10)

        assert [row.length for row in rows] == [1, 9, 5]

    def test_keeps_equal_lengths_in_their_order(self) -> None:
        rows = [row(position, 7) for position in range(6)]

        planned = plan_micro_batches(rows, 14, 10)

        assert [[row.job.position for row in batch.rows] for batch in planned] == [[0, 1], [2, 3], [4, 5]]


class TestPackedRows:
    @given(st.lists(st.integers(0, 100), max_size=80), budgets, most_rows)
    def test_fill_the_budget_with_their_own_tokens(self, sizes: list[int], budget: int, max_rows: int) -> None:
        planned = plan_micro_batches(
            [row(index, size, packed=True) for index, size in enumerate(sizes)], budget, max_rows
        )

        assert sorted(size for batch in lengths(planned) for size in batch) == sorted(sizes)
        for batch, following in pairwise(planned):
            one_more = batch.padded_tokens + following.rows[0].length
            full = len(batch.rows) in (max_rows, MAX_PADDING_FACTOR * (budget // max(1, batch.width)))
            assert full or one_more > budget
        for batch in planned:
            assert batch.padded_tokens <= budget or len(batch.rows) == 1
            assert len(batch.rows) <= max_rows

    def test_are_more_than_padded_ones(self) -> None:
        sizes = [9, 7, 5, 3, 2, 1]

        padded = plan_micro_batches([row(index, size) for index, size in enumerate(sizes)], 24, 100)
        packed = plan_micro_batches([row(index, size, packed=True) for index, size in enumerate(sizes)], 24, 100)

        assert lengths(padded) == [[9, 7], [5, 3, 2, 1]]
        assert lengths(packed) == [[9, 7, 5, 3], [2, 1]]

    def test_are_never_so_unlike_that_embeddings_would_be_the_work(self) -> None:
        rows = [row(0, 500, packed=True), *(row(index, 1, packed=True) for index in range(1, 500))]

        assert [len(batch.rows) for batch in plan_micro_batches(rows, 1_000, 512)] == [
            2 * MAX_PADDING_FACTOR,
            500 - 2 * MAX_PADDING_FACTOR,
        ]


class TestNextCompatible:
    def test_gives_the_longest_left_of_the_same_key(self) -> None:
        planner = MicroBatchPlanner([row(index, length) for index, length in enumerate([1, 5, 3, 4, 2])], 10)
        first = planner.next(5)
        assert first is not None

        assert lengths([batch for _ in range(3) if (batch := planner.next_compatible(first.rows[0], 8, 10))]) == [
            [4, 3],
            [2, 1],
        ]

    def test_gives_no_more_rows_than_there_is_room_for(self) -> None:
        planner = MicroBatchPlanner([row(index, 1) for index in range(9)], 4)
        first = planner.next(100)
        assert first is not None

        assert lengths([batch for _ in range(2) if (batch := planner.next_compatible(first.rows[0], 100, 3))]) == [
            [1] * 3,
            [1] * 2,
        ]

    def test_leaves_other_keys_alone(self) -> None:
        planner = MicroBatchPlanner([row(0, 2, "a"), row(1, 2, "b")], 10)
        first = planner.next(100)
        assert first is not None

        assert planner.next_compatible(first.rows[0], 100, 10) is None
        assert lengths([batch for _ in range(1) if (batch := planner.next(100))]) == [[2]]


class TestMicroBatch:
    def test_of_packed_rows_has_no_padding(self) -> None:
        batch = MicroBatch((row(0, 3, packed=True), row(1, 8, packed=True)))

        assert (batch.width, batch.padded_tokens) == (8, 11)
        assert [each_row.computed_tokens(batch.width) for each_row in (row(0, 3), row(0, 3, packed=True))] == [8, 3]

    def test_counts_what_the_device_really_computes(self) -> None:
        batch = MicroBatch((row(0, 3), row(1, 8), row(2, 5)))

        assert batch.width == 8
        assert batch.padded_tokens == 24


class TestDuplicates:
    def test_equal_inputs_of_two_batches_share_one_pass(self) -> None:
        jobs = [Job(LEASE, 0, {"text": "a"}), Job(LEASE, 1, {"text": "b"}), Job(OTHER_BATCH, 0, {"text": "a"})]

        assert group_duplicates(jobs, lambda _: False) == [(jobs[0], (jobs[2],)), (jobs[1], ())]

    def test_each_job_draws_its_own_sample(self) -> None:
        jobs = [Job(lease, position, {"text": "a"}) for lease in (LEASE, OTHER_BATCH) for position in (0, 1)]

        assert group_duplicates(jobs, lambda _: True) == [(job, ()) for job in jobs]

    @given(st.lists(st.tuples(inputs, st.integers(0, 2)), max_size=30), st.booleans())
    def test_are_those_with_equal_json(self, drawn: list[tuple[dict[str, Any], int]], samples: bool) -> None:
        leases = [Lease(n, f"batch{n}", 0, 99, 1, 1, parameters={"top_k": n} if n else {}) for n in range(3)]
        jobs = [Job(leases[lease], position, document) for position, (document, lease) in enumerate(drawn)]

        groups = group_duplicates(jobs, lambda parameters: samples and bool(parameters))

        expected: dict[Any, list[Job]] = {}
        for job in jobs:
            own = job.position if samples and job.lease.parameters else None
            expected.setdefault((to_json(job.lease.parameters), to_json(job.input), own), []).append(job)
        assert groups == [(first, tuple(others)) for first, *others in expected.values()]
