"""Equal requests share one act; what one of them has received is discarded if its own act is not run."""

import asyncio
from threading import Event

import pytest
from fastapi import Response

from models.errors import TooManyRequests
from producer.server.native.batches import long_acts
from producer.server.native.batches.long_acts import Act, ActPermits, Reply

REPLY: Reply[bytes] = Reply(Response, lambda: None)


def test_a_repeat_joins_the_act_that_runs() -> None:
    goes_on, runs, discarded = Event(), [], []

    def run() -> bytes:
        runs.append(1)
        assert goes_on.wait(60)
        return b"done"

    def make_act(number: int) -> Act[bytes]:
        return Act("delete", "mine", run, ActPermits(1, 1), lambda: discarded.append(number))

    async def request_three_times() -> list[Response]:
        requests = [asyncio.create_task(long_acts.perform(make_act(number), REPLY)) for number in range(3)]
        await asyncio.sleep(0)
        goes_on.set()
        return await asyncio.gather(*requests)

    responses = asyncio.run(request_three_times())

    assert (len(runs), sorted(discarded)) == (1, [1, 2])
    assert [response.body for response in responses] == [b"done"] * 3
    assert len({id(response.raw_headers) for response in responses}) == 3


def test_an_act_that_has_ended_is_not_joined() -> None:
    runs: list[int] = []

    def run() -> bytes:
        runs.append(1)
        return b""

    async def request_twice() -> None:
        for _ in range(2):
            await long_acts.perform(Act("cancel", "mine", run, ActPermits(1, 1)), REPLY)

    asyncio.run(request_twice())

    assert len(runs) == 2


def test_a_refused_act_leaves_nothing_behind() -> None:
    discarded: list[bool] = []

    act = Act("repair", None, lambda: b"", ActPermits(0, 0), lambda: discarded.append(True))

    with pytest.raises(TooManyRequests):
        asyncio.run(long_acts.perform(act, REPLY))

    assert discarded == [True]
