"""Shared weights: one set of parameters, modules apart, and moves that keep it so."""

import gc
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from worker.loading import shared_weights
from worker.loading.model_cache import ModelCache
from worker.loading.shared_weights import BaseModel, move_model, share, shared_sizes

CPU = torch.device("cpu")
MEBIBYTE = 2**20

MEASURE = """
import json, sys
import psutil
from tests.factories.tiny_models import pipeline_for
from worker.loading import runtime
base, adapters = sys.argv[1], sys.argv[2:]
runtime.load(pipeline_for(base, adapter=adapters[0]), "cpu", threads=1)  # libraries and caches
process = psutil.Process()
kept, sizes = [], []
for adapter in adapters:
    kept.append(runtime.load(pipeline_for(base, adapter=adapter), "cpu", threads=1))
    sizes.append(process.memory_info().rss)
print(json.dumps({"sizes": sizes, "weights": kept[0].weight_bytes}))
"""


class Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.tied = torch.nn.Linear(4, 4)
        self.tied.weight = self.linear.weight
        self.counter = torch.nn.Buffer(torch.zeros(1))


def shared_pair(key: Any) -> tuple[Any, Any]:
    first, _ = share(key, CPU, lambda: BaseModel(Layers(), ("missing",)))
    second, missing = share(key, CPU, lambda: pytest.fail("it is in memory"))
    assert missing == ("missing",)
    return first, second


class TestShare:
    def test_parameters_are_the_same_and_modules_are_not(self) -> None:
        first, second = shared_pair("a")

        assert first.linear.weight is second.linear.weight is second.tied.weight
        assert first.linear is not second.linear
        second.counter += 1
        assert first.counter == 0

    def test_what_one_replaces_the_other_keeps(self) -> None:
        first, second = shared_pair("b")

        second.linear.__class__ = type("Fast", (torch.nn.Linear,), {})
        second.tied = torch.nn.Identity()

        assert type(first.linear) is torch.nn.Linear
        assert isinstance(first.tied, torch.nn.Linear)

    def test_a_base_is_released_with_its_last_model(self) -> None:
        first, second = shared_pair("c")
        del first, second
        gc.collect()
        loads: list[int] = []

        share("c", CPU, lambda: loads.append(1) or BaseModel(Layers(), ()))

        assert loads == [1]

    def test_a_model_that_can_not_be_copied_has_its_weights_alone(self) -> None:
        def load() -> BaseModel:
            model = Layers()
            model.lock = threading.Lock()  # type: ignore[assignment]
            return BaseModel(model, ())

        first, second = share("d", CPU, load)[0], share("d", CPU, load)[0]

        assert first.linear.weight is not second.linear.weight
        assert shared_sizes(first) == {}


class TestMove:
    def test_only_tensors_apart_leave_if_the_next_one_shares_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first, _second = shared_pair("e")
        first.own = torch.nn.Parameter(torch.ones(1))
        moved: list[torch.Tensor] = []
        monkeypatch.setattr(shared_weights, "move", lambda tensors, _device: moved.extend(tensors))

        move_model(first, "cpu", keeps_shared=True)
        assert [tensor is first.own for tensor in moved] == [True]

        moved.clear()
        move_model(first, "cpu")
        assert {id(tensor) for tensor in moved} == {id(tensor) for tensor in first.parameters()}

    def test_happens_in_place_so_that_both_see_it(self) -> None:
        first, second = shared_pair("f")
        expected = first.linear.weight.clone()

        move_model(first, CPU)

        assert first.linear.weight is second.linear.weight
        assert torch.equal(second.linear.weight, expected)


class Offloaded:
    """A runtime as far as the cache looks at it."""

    can_offload = True

    def __init__(self, weight_bytes: int, shared: dict[int, int]) -> None:
        self.weight_bytes, self.shared_sizes, self.moves = weight_bytes, shared, []

    def offload(self, *, keeps_shared: bool = False) -> None:
        self.moves.append("own" if keeps_shared else "all")

    def restore(self) -> None:
        self.moves.append("back")


class TestCache:
    def test_counts_shared_weights_once(self) -> None:
        cache = ModelCache(120)
        for name in "ab":
            cache.put(name, Offloaded(100, {1: 60, 2: 30}))

        assert len(cache) == 2
        cache.put("c", Offloaded(100, {3: 90}))
        assert cache.pop("a") is None

    def test_shared_weights_stay_until_a_pipeline_without_them_comes(self) -> None:
        cache, runtime = ModelCache(120), Offloaded(100, {1: 60})

        cache.put("a", runtime, keeps_shared=True)
        assert runtime.moves == ["own"]

        cache.offload_shared()
        assert runtime.moves == ["own", "all"]


def test_two_adapters_over_one_model_need_its_memory_once(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from tests.factories import tiny_models
    from tests.factories.lora_adapters import adapter_for

    config = BertConfig(vocab_size=50_000, hidden_size=384, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0)
    base = tiny_models.save(tmp_path / "base", BertForSequenceClassification(config), tiny_models.wordpiece_tokenizer())
    first_adapter = adapter_for(base, tmp_path / "first")
    second_adapter = shutil.copytree(first_adapter, tmp_path / "second")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, str(base), str(first_adapter), str(second_adapter)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[4],
    )

    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["weights"] > 70 * MEBIBYTE
    first, last = measured["sizes"]
    assert last - first < measured["weights"] / 2
