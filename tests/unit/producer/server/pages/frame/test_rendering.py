"""Templates become responses."""

from producer.server.pages.frame.rendering import render
from tests.factories.page_requests import request_of


def test_half_a_surrogate_pair_is_replaced() -> None:
    """`cut` and `visible` show it; where a template has neither, the page comes all the same."""
    response = render(request_of(), None, "frame/reload.html", address="/a\ud800b")

    assert b'href="/a?b"' in bytes(response.body)
