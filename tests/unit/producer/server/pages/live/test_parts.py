import math

import pytest

from producer.server.pages.live import parts
from producer.server.pages.live.parts import LivePart, PartPace
from producer.tenants.principal import Principal, Scope


def pace_of(**fields: float) -> PartPace:
    """Return the pace of a part that was rendered at 100."""
    pace = PartPace(LivePart("pace", "_pace.html", lambda *_: {}, **fields))
    pace.note_rendering(100.0)
    return pace


def test_a_part_is_due_at_once_before_it_was_rendered() -> None:
    assert PartPace(LivePart("pace", "_pace.html", lambda *_: {}, seconds=10)).seconds_left(0.0) == 0


def test_a_part_without_a_change_is_never_due() -> None:
    assert pace_of(seconds=1).seconds_left(1_000.0) == math.inf


def test_a_changed_part_waits_for_its_time() -> None:
    pace = pace_of(seconds=10)

    pace.note_change()

    assert pace.seconds_left(104.0) == 6.0
    assert pace.seconds_left(111.0) == 0.0


def test_an_urgent_change_does_not_wait() -> None:
    pace = pace_of(seconds=10)

    pace.note_change(is_urgent=True)

    assert pace.seconds_left(100.5) == 0.0


def test_a_part_may_follow_the_clock() -> None:
    assert pace_of(seconds=1, clock_seconds=15).seconds_left(110.0) == 5.0


def test_ages_make_no_difference() -> None:
    html = '<p><time datetime="2026-11-30T12:00:00Z" data-age title="then">{} ago</time> {}</p>'

    assert parts.without_ages(html.format("5 s", "a")) == parts.without_ages(html.format("9 s", "a"))
    assert parts.without_ages(html.format("5 s", "a")) != parts.without_ages(html.format("5 s", "b"))


def test_an_audience_is_the_same_for_all_keys_with_the_same_rights() -> None:
    scopes = frozenset({Scope.READ})

    assert parts.audience_of(Principal("a", scopes, "1")) == parts.audience_of(Principal("a", scopes, "2"))
    assert parts.audience_of(Principal("a", scopes)) != parts.audience_of(Principal("b", scopes))
    assert not parts.audience_of(Principal("a", scopes)).may_submit


def test_a_rendering_is_followed_by_a_rest_so_that_all_channels_take_a_twentieth_of_a_core() -> None:
    assert parts.rest_seconds(0.01, channels=1) == pytest.approx(0.2)
    assert parts.rest_seconds(0.01, channels=50) == pytest.approx(10.0)
    assert parts.rest_seconds(0.01, channels=1_000) == parts.MAX_REST_SECONDS
