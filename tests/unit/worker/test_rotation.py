"""The rotation: when a process changes its pinned pipeline, and to which."""

from hypothesis import given
from hypothesis import strategies as st

from worker.rotation import Rotation

NAMES = ["a", "b", "c"]
MAX_WAIT = 60.0


def rotation() -> Rotation:
    return Rotation(NAMES, MAX_WAIT)


class TestNext:
    def test_stays_while_nothing_else_waits(self) -> None:
        assert rotation().next("a", set(), 0.0, busy=False) is None
        assert rotation().next("a", {"a"}, 0.0, busy=False) is None

    def test_stays_while_its_own_backlog_lasts(self) -> None:
        assert rotation().next("a", {"a", "b"}, 0.0, busy=False) is None

    def test_stays_while_work_is_in_hand(self) -> None:
        assert rotation().next("a", {"b"}, 0.0, busy=True) is None

    def test_changes_when_its_backlog_is_dry(self) -> None:
        assert rotation().next("a", {"b"}, 0.0, busy=False) == "b"

    def test_changes_in_the_middle_of_a_backlog_when_another_has_waited_for_long(self) -> None:
        ours = rotation()
        assert ours.next("a", {"a", "b"}, 0.0, busy=True) is None
        assert ours.next("a", {"a", "b"}, MAX_WAIT - 1, busy=True) is None

        assert ours.next("a", {"a", "b"}, MAX_WAIT, busy=True) == "b"

    def test_takes_the_one_that_has_waited_longest_and_then_the_first_named(self) -> None:
        ours = rotation()
        ours.next("a", {"a", "c"}, 0.0, busy=True)
        ours.next("a", {"a", "b", "c"}, 1.0, busy=True)

        assert ours.next("a", {"b", "c"}, 2.0, busy=False) == "c"
        assert rotation().next("a", {"c", "b"}, 0.0, busy=False) == "b"

    def test_a_wait_is_over_when_somebody_else_did_the_work(self) -> None:
        ours = rotation()
        ours.next("a", {"a", "b"}, 0.0, busy=True)
        ours.next("a", {"a"}, 50.0, busy=True)

        assert ours.next("a", {"a", "b"}, 70.0, busy=True) is None

    def test_pins_what_waits_when_nothing_is_pinned(self) -> None:
        assert rotation().next(None, {"c"}, 0.0, busy=False) == "c"
        assert rotation().next(None, set(), 0.0, busy=False) is None

    @given(st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.booleans(), st.floats(0.1, 30)), max_size=40))
    def test_nobody_waits_for_long_once_every_backlog_lasts(self, steps: list[tuple[set[str], bool, float]]) -> None:
        ours, pinned, now = rotation(), "a", 0.0
        since = dict.fromkeys(NAMES, 0.0)
        for waiting, busy, seconds in steps:
            now += seconds
            chosen = ours.next(pinned, waiting, now, busy=busy)
            assert chosen is None or (chosen in waiting and chosen != pinned)
            pinned = chosen or pinned
            since = {name: since[name] if name in waiting and name != pinned else now for name in NAMES}
            # Two may wait at once, and a step lasts up to 30 s: the second is taken a step after the first.
            assert all(now - moment <= MAX_WAIT + 2 * 30 for moment in since.values())
