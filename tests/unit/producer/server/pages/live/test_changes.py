import asyncio

from models.states import BatchStatus
from producer.batches.changes import BatchState
from producer.batches.views import JobCounts
from producer.server.following.watch import ListFollower
from producer.server.pages.live import changes

SECONDS = 30.0
COUNTS = JobCounts(total=4, succeeded=1, failed=0, cancelled=0, expired=0)


def state(batch_id: str, status: BatchStatus, last_seq: int = 0) -> BatchState:
    """Return the state of a batch."""
    return BatchState(batch_id, "default", status, ingesting=False, rows_read=0, last_seq=last_seq, counts=COUNTS)


def notice(followed_by: ListFollower, *states: BatchState) -> list[bool]:
    """Return of each state, in turn, whether it is a change."""

    async def read() -> list[bool]:
        followed = changes.StatusChanges(followed_by)
        noticed = []
        for state in states:
            followed_by.notify({state.id: state})
            noticed.append((await followed.next(SECONDS)).has_changed)
        return noticed

    return asyncio.run(read())


def test_only_another_status_is_a_change_for_pages_without_counters() -> None:
    noticed = notice(
        ListFollower(None),
        state("a", BatchStatus.IN_PROGRESS),  # the page shows those that are open at first
        state("a", BatchStatus.IN_PROGRESS, last_seq=3),
        state("b", BatchStatus.VALIDATING),
        state("a", BatchStatus.COMPLETED),
    )

    assert noticed == [False, False, True, True]


def test_a_batch_that_comes_and_ends_between_two_looks_is_a_change() -> None:
    noticed = notice(ListFollower(None), state("a", BatchStatus.IN_PROGRESS), state("b", BatchStatus.COMPLETED))

    assert noticed == [False, True]


def test_a_server_that_stops_closes_the_page() -> None:
    follower = ListFollower(None)

    follower.close()

    assert asyncio.run(changes.StatusChanges(follower).next(SECONDS)).is_closing
