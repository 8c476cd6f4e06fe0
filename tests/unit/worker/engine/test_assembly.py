"""The part assembler: the total cost of a job's rows."""

import pytest

from worker.adapters.rows import Row
from worker.engine.assembly import PartAssembler
from worker.leasing.leases import Job, Lease


@pytest.mark.parametrize(("packed", "computed"), [(False, 16), (True, 11)])
def test_padding_counts_only_if_the_device_computed_it(packed: bool, computed: int) -> None:
    job, assembler = Job(Lease(1, "batch", 0, 1, 1, 1), 0, {}), PartAssembler()
    rows = [
        Row(job, None, length, truncated=False, part_index=part, part_count=2, packed=packed)
        for part, length in enumerate((8, 3))
    ]

    [partial_job] = assembler.add([(row, None) for row in rows], 8, 0.5)

    assert (partial_job.tokens, partial_job.padded_tokens, partial_job.device_seconds) == (11, computed, 1.0)


def part(job: Job, index: int, count: int = 3, *, duplicates: tuple[Job, ...] = (), truncated: bool = False) -> Row:
    return Row(job, None, 4, truncated=truncated, part_index=index, part_count=count, duplicates=duplicates)


def test_parts_from_several_micro_batches_come_in_the_order_of_encoding() -> None:
    job, assembler = Job(Lease(1, "batch", 0, 1, 1, 1), 0, {}), PartAssembler()
    rows = [part(job, index, truncated=index == 1) for index in range(3)]

    assert assembler.add([(rows[2], "third")], 4, 0.5) == []
    [complete] = assembler.add([(rows[0], "first"), (rows[1], "second")], 4, 0.5)

    assert complete.encoded_rows == rows
    assert complete.raw_outputs == ["first", "second", "third"]
    assert (complete.truncated, complete.tokens, complete.device_seconds) == (True, 12, 1.5)


def test_parts_of_lost_leases_are_discarded_unless_a_duplicate_is_held() -> None:
    lost, held = Lease(1, "batch", 0, 9, 1, 1), Lease(2, "batch", 9, 9, 1, 1)
    alone, shared, kept = Job(lost, 0, {}), Job(lost, 1, {}), Job(held, 9, {})
    duplicates = (Job(held, 10, {}),)
    assembler = PartAssembler()
    first_parts = [part(alone, 0), part(shared, 0, duplicates=duplicates), part(kept, 0)]
    assembler.add([(row, None) for row in first_parts], 4, 0.0)

    assembler.discard_others({held})
    others = [part(job, index) for index in (1, 2) for job in (alone, shared, kept)]
    complete = assembler.add([(row, None) for row in others], 4, 0.0)

    assert [partial_job.jobs for partial_job in complete] == [(shared, *duplicates), (kept,)]


def test_a_slice_claimed_again_starts_with_its_first_part() -> None:
    first, second = (Lease(1, "batch", 0, 9, token, 1) for token in (1, 2))
    assembler = PartAssembler()
    assembler.add([(part(Job(first, 0, {}), 0, 2), "old")], 4, 0.0)

    assembler.discard_others({second})
    again = Job(second, 0, {})
    [complete] = assembler.add([(part(again, index, 2), f"new {index}") for index in (0, 1)], 4, 0.0)

    assert complete.raw_outputs == ["new 0", "new 1"]
