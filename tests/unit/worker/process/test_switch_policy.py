"""The rotation: when a process changes its pinned pipeline, and to which."""

from hypothesis import given
from hypothesis import strategies as st

from worker.process.switch_policy import LoadTarget, SwitchPolicy

NAMES = ["a", "b", "c"]
A, B, C = TARGETS = [LoadTarget(name) for name in NAMES]
MAX_WAIT = 60.0


def make_policy() -> SwitchPolicy:
    return SwitchPolicy(NAMES, MAX_WAIT)


class TestNext:
    def test_stays_while_nothing_else_waits(self) -> None:
        assert make_policy().choose(A, set(), 0.0, is_busy=False) is None
        assert make_policy().choose(A, {A}, 0.0, is_busy=False) is None

    def test_stays_while_its_own_backlog_lasts(self) -> None:
        assert make_policy().choose(A, {A, B}, 0.0, is_busy=False) is None

    def test_stays_while_work_is_in_hand(self) -> None:
        assert make_policy().choose(A, {B}, 0.0, is_busy=True) is None

    def test_changes_when_its_backlog_is_dry(self) -> None:
        assert make_policy().choose(A, {B}, 0.0, is_busy=False) == B

    def test_changes_in_the_middle_of_a_backlog_when_another_has_waited_for_long(self) -> None:
        policy = make_policy()
        assert policy.choose(A, {A, B}, 0.0, is_busy=True) is None
        assert policy.choose(A, {A, B}, MAX_WAIT - 1, is_busy=True) is None

        assert policy.choose(A, {A, B}, MAX_WAIT, is_busy=True) == B

    def test_takes_the_one_that_has_waited_longest_and_then_the_first_named(self) -> None:
        policy = make_policy()
        policy.choose(A, {A, C}, 0.0, is_busy=True)
        policy.choose(A, {A, B, C}, 1.0, is_busy=True)

        assert policy.choose(A, {B, C}, 2.0, is_busy=False) == C
        assert make_policy().choose(A, {C, B}, 0.0, is_busy=False) == B

    def test_a_wait_is_over_when_somebody_else_did_the_work(self) -> None:
        policy = make_policy()
        policy.choose(A, {A, B}, 0.0, is_busy=True)
        policy.choose(A, {A}, 50.0, is_busy=True)

        assert policy.choose(A, {A, B}, 70.0, is_busy=True) is None

    def test_takes_another_after_one_that_could_not_be_loaded(self) -> None:
        policy = make_policy()
        assert policy.choose(None, {A, B}, 0.0, is_busy=False) == A

        policy.move_to_back(A)

        assert policy.choose(None, {A, B}, 1.0, is_busy=False) == B

    def test_takes_a_revision_of_its_own_pipeline_that_waits(self) -> None:
        assert make_policy().choose(A, {LoadTarget("a", "f" * 40)}, 0.0, is_busy=False) == LoadTarget("a", "f" * 40)

    def test_pins_what_waits_when_nothing_is_pinned(self) -> None:
        assert make_policy().choose(None, {C}, 0.0, is_busy=False) == C
        assert make_policy().choose(None, set(), 0.0, is_busy=False) is None

    def test_work_goes_on_if_one_round_of_switches_takes_longer_than_the_wait(self) -> None:
        targets = [LoadTarget(f"adapter-{number:03}") for number in range(100)]
        policy = SwitchPolicy([target.pipeline for target in targets], MAX_WAIT)
        active, now, seconds_of_work = targets[0], 0.0, dict.fromkeys(targets, 0.0)

        while now < 2 * 100 * (MAX_WAIT + 1):
            chosen = policy.choose(active, targets, now, is_busy=True)
            seconds_of_work[active] += 0 if chosen else 0.5
            now += 0.7 if chosen else 0.5
            active = chosen or active

        assert min(seconds_of_work.values()) >= MAX_WAIT

    @given(st.lists(st.tuples(st.sets(st.sampled_from(TARGETS)), st.booleans(), st.floats(0.1, 30)), max_size=40))
    def test_nobody_waits_for_long_once_every_backlog_lasts(
        self, steps: list[tuple[set[LoadTarget], bool, float]]
    ) -> None:
        policy, pinned, now = make_policy(), A, 0.0
        since = dict.fromkeys(TARGETS, 0.0)
        for waiting, busy, seconds in steps:
            now += seconds
            chosen = policy.choose(pinned, waiting, now, is_busy=busy)
            assert chosen is None or (chosen in waiting and chosen != pinned)
            pinned = chosen or pinned
            since = {name: since[name] if name in waiting and name != pinned else now for name in TARGETS}
            # Two may wait at once, and a step lasts up to 30 s: the second is taken when the first has worked its time.
            assert all(now - moment <= 2 * (MAX_WAIT + 2 * 30) for moment in since.values())
