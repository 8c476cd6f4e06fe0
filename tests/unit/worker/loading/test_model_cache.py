"""The cache of pipelines that were pinned before: within its bound, and the memory of the rest is given back."""

from typing import Any

import psutil
import pytest
import torch

from worker.loading import model_cache
from worker.loading.model_cache import ModelCache

MEBIBYTE = 2**20


class Parked:
    """A runtime as far as the cache looks at it."""

    def __init__(self, weight_bytes: int, *, can_offload: bool = True) -> None:
        self.weight_bytes, self.can_offload, self.moves = weight_bytes, can_offload, []
        self.model: Any = None
        self.shared_sizes: dict[int, int] = {}

    def offload(self, *, keeps_shared: bool = False) -> None:
        self.moves.append("off but shared" if keeps_shared else "off")

    def restore(self) -> None:
        self.moves.append("on")


class TestRuntimeCache:
    def test_gives_back_what_it_was_given_off_and_on_its_device(self) -> None:
        kept, runtime = ModelCache(100), Parked(60)
        kept.put("a", runtime)

        assert kept.pop("a") is runtime
        assert runtime.moves == ["off", "on"]
        assert kept.pop("a") is None

    def test_forgets_the_least_recently_used_first(self) -> None:
        kept, runtimes = ModelCache(100), {name: Parked(50) for name in "abc"}
        for name in ("a", "b"):
            kept.put(name, runtimes[name])
        kept.put("a", kept.pop("a"))

        kept.put("c", runtimes["c"])

        assert kept.pop("b") is None
        assert (kept.pop("a"), kept.pop("c")) == (runtimes["a"], runtimes["c"])

    @pytest.mark.parametrize(
        ("room", "runtime"), [(0, Parked(1)), (10, Parked(11)), (10, Parked(1, can_offload=False))]
    )
    def test_keeps_nothing_that_does_not_fit_or_cannot_move(self, room: int, runtime: Parked) -> None:
        kept = ModelCache(room)
        kept.put("a", runtime)
        assert len(kept) == 0


def test_memory_of_what_is_forgotten_goes_back_to_the_machine() -> None:
    kept, process = ModelCache(0), psutil.Process()
    model_cache.release_memory()
    before = process.memory_info().rss
    runtime = Parked(200 * MEBIBYTE)
    runtime.model = [torch.ones(MEBIBYTE // 4) for _ in range(200)]  # many blocks, as a model has, not one big one
    runtime.model.append(runtime)  # and in a circle, as adapters and models are
    held = process.memory_info().rss

    kept.put("a", runtime)
    del runtime
    model_cache.release_memory()

    assert held - before > 150 * MEBIBYTE
    assert process.memory_info().rss - before < 30 * MEBIBYTE
