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
