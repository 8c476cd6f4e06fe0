"""Bisection: the items at fault get an exception, all others a result."""

import gc
import weakref
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.passes.bisection import isolate_failures


class Poisoned(Exception):
    def __init__(self, item: int) -> None:
        super().__init__(item)
        self.item = item


class Work:
    """Doubles numbers, and raises if a culprit is among them; records its calls."""

    def __init__(self, culprits: set[int]) -> None:
        self.culprits = culprits
        self.calls: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        for item in items:
            if item in self.culprits:
                raise Poisoned(item)
        return [item * 2 for item in items]


class TestIsolateFailures:
    @given(st.integers(0, 40).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, max(0, size - 1))))))
    def test_finds_any_set_of_culprits(self, drawn: tuple[int, set[int]]) -> None:
        size, culprits = drawn

        outcomes = isolate_failures(Work(culprits), range(size))

        assert [item for item, _ in outcomes] == list(range(size))
        for item, result in outcomes:
            if item in culprits:
                assert isinstance(result, Poisoned)
                assert result.item == item, "each culprit has its own exception"
            else:
                assert result == item * 2

    def test_calls_once_when_nothing_fails(self) -> None:
        work = Work(set())

        isolate_failures(work, range(64))

        assert work.calls == [list(range(64))]

    def test_finds_one_culprit_among_64_in_few_calls(self) -> None:
        work = Work({37})

        outcomes = isolate_failures(work, range(64))

        assert [item for item, result in outcomes if isinstance(result, Poisoned)] == [37]
        assert len(work.calls) == 13, "one for all, then two for each of six halvings"

    def test_makes_no_call_without_items(self) -> None:
        work = Work(set())

        assert isolate_failures(work, []) == []
        assert work.calls == []

    def test_treats_the_wrong_number_of_results_as_a_failure(self) -> None:
        outcomes = isolate_failures(lambda items: [0] * (len(items) - 1), ["only"])

        assert [(item, type(result)) for item, result in outcomes] == [("only", ValueError)]

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
    def test_reraises_errors_that_end_the_process(self, stop: type[BaseException]) -> None:
        def work(_items: Sequence[int]) -> list[int]:
            raise stop

        with pytest.raises(stop):
            isolate_failures(work, [1, 2])

    def test_treats_a_panic_as_an_error(self) -> None:
        class PanicException(BaseException):
            """As Rust's bindings raise it."""

        def work(items: Sequence[int]) -> list[int]:
            if 3 in items:
                raise PanicException
            return list(items)

        outcomes = dict(isolate_failures(work, [1, 2, 3, 4]))

        assert isinstance(outcomes.pop(3), RuntimeError)
        assert outcomes == {1: 1, 2: 2, 4: 4}


class TestKeptErrors:
    @pytest.mark.parametrize("chained", [False, True])
    def test_release_the_frames_of_their_tracebacks(self, chained: bool) -> None:
        class Large:
            """An object that a frame would keep."""

        references: list[weakref.ref[Large]] = []

        def work(items: Sequence[int]) -> list[int]:
            large = Large()
            references.append(weakref.ref(large))
            try:
                raise ValueError(items)
            except ValueError as error:
                if chained:
                    raise LookupError from error
                raise

        gc.disable()
        try:
            outcomes = isolate_failures(work, [1, 2, 3])

            assert len(outcomes) == 3
            assert [reference() for reference in references] == [None] * len(references)
        finally:
            gc.enable()
