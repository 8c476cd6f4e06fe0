"""Portions: held slices are read a few megabytes at a time, however much their inputs come to. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from worker.leasing.chunking import chunks
from worker.leasing.claims import Job, Size, Stretch

# What goes to a tokenizer in one call: it takes up to 1,300 bytes for a character, and nobody hears of it meanwhile.
CALL_BYTES, CALL_JOBS = 65_536, 256


def planned(sizes: Iterable[Size], most_bytes: int) -> Iterator[list[Stretch]]:
    """What to read at a time, in order: inputs of so many bytes, or one input."""
    for some in chunks(sizes, lambda size: size.size, most_bytes):
        stretches: list[Stretch] = []
        for size in some:
            if stretches and stretches[-1].lease is size.lease:
                stretches[-1] = Stretch(size.lease, stretches[-1].first, size.position + 1)
            else:
                stretches.append(Stretch(size.lease, size.position, size.position + 1))
        yield stretches


def calls(distinct: Sequence[tuple[Job, tuple[Job, ...]]]) -> Iterator[list[tuple[Job, tuple[Job, ...]]]]:
    """Jobs with their twins, as many as are tokenized at a time."""
    return chunks(distinct, lambda one: one[0].size, CALL_BYTES, CALL_JOBS)
