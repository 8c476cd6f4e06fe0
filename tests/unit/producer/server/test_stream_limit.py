"""Open streams leave connections to other requests, and one key's leave streams to others."""

from contextlib import ExitStack

import pytest

from models.errors import TooManyRequests
from producer.server.following.stream_limit import StreamLimit


def test_one_key_has_an_eighth_of_the_connections() -> None:
    limit = StreamLimit(16)
    with limit.permit("a"), limit.permit("a"):
        with pytest.raises(TooManyRequests, match="this key has 2"), limit.permit("a"):
            pass
        with limit.permit("b"):
            limit.check("b")
    limit.check("a")
    assert not limit._open


@pytest.mark.parametrize("is_open", [True, False])
def test_all_together_have_a_half(is_open: bool) -> None:
    limit = StreamLimit(16)
    with ExitStack() as stack:
        for number in range(8):
            stack.enter_context(limit.permit(None if is_open else f"key-{number}"))
        for key_id in (None, "another"):
            with pytest.raises(TooManyRequests, match="the server has 8"):
                limit.check(key_id)
    limit.check(None)
