"""The token budget tuner finds the fastest size, and shrinks when memory runs out."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS
from worker.failures import is_out_of_memory
from worker.passes.token_budget import (
    COOLDOWN_MICRO_BATCHES,
    MAX_FAILED_REGROWTHS,
    MAX_UNFILLED,
    MIN_TOKENS,
    WARM_UP_MICRO_BATCHES,
    TokenBudgetTuner,
)

Rate = Callable[[int], float]  # tokens a second at a size


def peak(best: int) -> Rate:
    """A device that is fastest at one size, and slower the further away."""
    return lambda tokens: 1000.0 / (1.0 + 0.3 * abs(math.log2(tokens / best)))


def work(budget: TokenBudgetTuner, rate: Rate, micro_batches: int, *, seed: int | None = None) -> None:
    source = random.Random(seed)
    for _ in range(micro_batches):
        requested = budget.next()
        noise = source.uniform(0.9, 1.1) if seed is not None else 1.0
        budget.record(requested, requested, requested, requested / (rate(requested) * noise))


class TestTuning:
    @pytest.mark.parametrize("start", [256, 1024, 16_384])
    @pytest.mark.parametrize("best", [256, 1024, 8192, 65_536])
    def test_finds_the_fastest_size_from_either_side(self, start: int, best: int) -> None:
        budget = TokenBudgetTuner(start)
        work(budget, peak(best), 200)
        assert budget.tokens == best

    @pytest.mark.parametrize("seed", range(5))
    def test_finds_it_in_spite_of_noise(self, seed: int) -> None:
        budget = TokenBudgetTuner(1024)
        work(budget, peak(4096), 200, seed=seed)
        assert budget.tokens == 4096

    def test_leaves_the_first_jobs_alone(self) -> None:
        budget = TokenBudgetTuner(1024)

        sizes = []
        for _ in range(WARM_UP_MICRO_BATCHES + 2):
            sizes.append(budget.next())
            work(budget, peak(4096), 1)

        assert set(sizes[: WARM_UP_MICRO_BATCHES + 1]) == {1024}
        assert sizes[-1] == 2048

    def test_ends_a_trial_as_soon_as_the_majority_is_certain(self) -> None:
        budget = TokenBudgetTuner(1024)
        work(budget, peak(1024), WARM_UP_MICRO_BATCHES)

        sizes = []
        for _ in range(13):
            sizes.append(budget.next())
            work(budget, peak(1024), 1)

        assert sizes == [1024, 2048] * 3 + [1024, 512] * 3 + [1024]

    def test_gives_a_size_up_that_no_micro_batch_fills(self) -> None:
        budget = TokenBudgetTuner(1024)
        work(budget, peak(4096), WARM_UP_MICRO_BATCHES)

        sizes = []
        for _ in range(MAX_UNFILLED + 3):
            requested = budget.next()
            sizes.append(requested)
            budget.record(requested, min(requested, 1100), min(requested, 1100), 1.0)

        assert sizes[1 : MAX_UNFILLED + 1] == [2048] * MAX_UNFILLED
        assert 2048 not in sizes[MAX_UNFILLED + 1 :]
        assert budget.tokens == 1024

    def test_stays_where_sizes_make_no_difference(self) -> None:
        budget = TokenBudgetTuner(1024)
        work(budget, lambda _tokens: 1000.0, 5 * COOLDOWN_MICRO_BATCHES)
        assert budget.tokens == 1024

    @pytest.mark.parametrize("start", [512, 100_000])
    def test_never_goes_beyond_the_largest(self, start: int) -> None:
        budget = TokenBudgetTuner(start, max_tokens=5_000)
        sizes = set()
        for _ in range(5 * COOLDOWN_MICRO_BATCHES):
            sizes.add(budget.next())
            work(budget, peak(65_536), 1)
        assert max(sizes) <= 5_000
        assert budget.tokens > 2_500

    def test_follows_a_device_that_changes(self) -> None:
        budget = TokenBudgetTuner(1024)
        work(budget, peak(1024), 100)
        work(budget, peak(256), 3 * COOLDOWN_MICRO_BATCHES)
        assert budget.tokens == 256

    def test_learns_nothing_from_micro_batches_that_are_not_full(self) -> None:
        budget = TokenBudgetTuner(1024)
        for _ in range(1000):
            budget.record(budget.next(), 100, 100, 1.0)
        assert budget.tokens == 1024

    def test_keeps_a_fixed_budget(self) -> None:
        budget = TokenBudgetTuner(100, tunable=False)
        work(budget, peak(4096), 1000)
        assert (budget.tokens, budget.next()) == (100, 100)

    @given(st.integers(MIN_TOKENS, MAX_MICRO_BATCH_TOKENS), st.lists(st.floats(0.1, 10.0), max_size=200))
    def test_stays_within_bounds(self, start: int, rates: list[float]) -> None:
        budget = TokenBudgetTuner(start)
        for rate in rates:
            requested = budget.next()
            assert MIN_TOKENS <= requested <= MAX_MICRO_BATCH_TOKENS
            budget.record(requested, requested, requested, requested / rate)


class TestMemory:
    def test_the_budget_halves_when_memory_runs_out(self) -> None:
        budget = TokenBudgetTuner(16_384)
        budget.shrink(16_384)
        assert budget.next() == 8192

    def test_it_grows_back_when_there_is_room_again(self) -> None:
        budget = TokenBudgetTuner(4096)
        budget.shrink(4096)
        work(budget, peak(4096), 2 * COOLDOWN_MICRO_BATCHES)
        assert budget.tokens == 4096

    @pytest.mark.parametrize("tunable", [True, False])
    def test_it_grows_back_to_a_size_that_does_not_fit_at_most_twice(self, tunable: bool) -> None:
        budget = TokenBudgetTuner(4096, tunable=tunable)
        failures = 0
        for _ in range(20 * COOLDOWN_MICRO_BATCHES):
            requested = budget.next()
            if requested > 3000:
                failures += 1
                budget.shrink(requested)
                budget.shrink(requested // 2)  # the first half fails as well, beside what the second has left
            else:
                budget.record(requested, requested, requested, requested / peak(65_536)(requested))

        assert failures == 1 + MAX_FAILED_REGROWTHS

    def test_it_grows_on_where_it_fits(self) -> None:
        budget = TokenBudgetTuner(8192)
        for _ in range(2 * MAX_FAILED_REGROWTHS):
            budget.shrink(budget.tokens // 2)
        work(budget, peak(65_536), 20 * COOLDOWN_MICRO_BATCHES)

        assert budget.tokens >= 65_536

    def test_it_stays_small_during_the_cooldown(self) -> None:
        budget = TokenBudgetTuner(4096)
        budget.shrink(4096)
        for _ in range(COOLDOWN_MICRO_BATCHES - 1):
            assert budget.next() <= 2048
            work(budget, peak(65_536), 1)

    def test_it_stays_small_once_growing_back_has_failed_twice(self) -> None:
        budget = TokenBudgetTuner(4096)
        failures = 0
        for _ in range(20 * COOLDOWN_MICRO_BATCHES):
            requested = budget.next()
            if requested > 2048:
                budget.shrink(requested)
                failures += 1
            else:
                budget.record(requested, requested, requested, 1.0)

        assert failures == 3, "the first time, and after each time that it grew back"
        assert budget.tokens == 2048

    def test_restored_limits_count_no_failure(self) -> None:
        budget = TokenBudgetTuner(4096)
        for _ in range(2 * MAX_FAILED_REGROWTHS):
            limits = budget.limits
            budget.shrink(4096)
            budget.shrink(2048)
            budget.restore(limits)
            assert budget.next() == 4096
            work(budget, peak(4096), COOLDOWN_MICRO_BATCHES)

        assert budget.limits == limits

    def test_a_fixed_budget_halves_too(self) -> None:
        budget = TokenBudgetTuner(4096, tunable=False)
        budget.shrink(4096)
        assert budget.next() == 2048
        work(budget, peak(65_536), COOLDOWN_MICRO_BATCHES + 1)
        assert budget.next() == 4096


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
            True,
        ),
        (RuntimeError("shape mismatch"), False),
        (ValueError(), False),
    ],
)
def test_is_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
