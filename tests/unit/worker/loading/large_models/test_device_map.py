"""Device maps: what is on disk, what a changed file changes, and the sentence where a model can't be spread."""

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils import OffloadedWeightsLoader, PrefixedDataset
from structlog.testing import capture_logs
from transformers import AutoModelForSequenceClassification

from models.errors import LoadFailed
from tests.factories import tiny_models
from tests.factories.tiny_models import pipeline_for
from worker.adapters.rows import MicroBatch
from worker.layers import spread_weights
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.large_models import device_map
from worker.loading.large_models.device_map import SpreadLoad
from worker.loading.model_cache import ModelCache
from worker.loading.runtime import Runtime

LEASE = Lease(1, "b", 0, 4, 1, 1)
SOME = {"cpu": "0.04MB"}  # of 0.11 MB


def load(folder: Path, offload_parent: Path, **entry: Any) -> Runtime:
    entry = {"device_map": "auto", "max_memory": SOME, **entry}
    return runtime.load(pipeline_for(folder, **entry), "cpu", threads=1, offload_parent=offload_parent)


def score(loaded: Runtime) -> float:
    [[row]] = loaded.adapter.encode([Job(LEASE, 0, {"text": "love it"})])
    [raw] = loaded.adapter.forward(MicroBatch((row,)))
    result: float = loaded.adapter.decode([row], [raw])["score"]
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.distilbert(tmp_path / "model")


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "offload"


class TestSpread:
    @pytest.mark.parametrize("name", ["auto", "balanced", "sequential"])
    def test_leaves_the_rest_on_disk(self, folder: Path, parent: Path, name: str) -> None:
        with capture_logs() as events:
            loaded = load(folder, parent, device_map=name)

        [event] = [event for event in events if event["event"] == "model.spread"]
        assert event["bytes_by_place"] == spread_weights.bytes_by_place(loaded.model)
        assert event["bytes_by_place"]["disk"] > event["bytes_by_place"]["cpu"] > 0
        assert sum(event["bytes_by_place"].values()) == loaded.weight_bytes
        assert loaded.version.libraries["accelerate"]

    def test_is_read_without_packing_or_replaced_layers(self, folder: Path, parent: Path) -> None:
        loaded = load(folder, parent)

        assert not loaded.adapter.uses_packing
        assert {type(module) for module in loaded.model.modules() if isinstance(module, torch.nn.Linear)} == {
            torch.nn.Linear
        }

    def test_of_a_model_that_fits_is_none(self, folder: Path, parent: Path) -> None:
        loaded = load(folder, parent, max_memory=None)

        assert not loaded.is_spread
        assert spread_weights.bytes_by_place(loaded.model).keys() == {"cpu"}

    def test_reads_its_weights_from_a_copy(self, folder: Path, parent: Path) -> None:
        loaded = load(folder, parent)
        before = score(loaded)

        (folder / "model.safetensors").write_bytes(b"other")

        assert score(loaded) == before

    def test_copies_weights_in_memory_and_keeps_tied_ones_tied(self, tmp_path: Path) -> None:
        mapped, other = torch.ones(4, 4), torch.zeros(4, 4)
        weights = OffloadedWeightsLoader(state_dict={"a.weight": mapped, "b.weight": mapped, "c.weight": other})
        layer = add_hook_to_module(
            torch.nn.Linear(4, 4, device="meta"), AlignDevicesHook(weights_map=PrefixedDataset(weights, "a."))
        )

        device_map._detach_from_files(layer, tmp_path)
        mapped.fill_(9)

        assert weights["a.weight"].tolist() == torch.ones(4, 4).tolist()
        assert weights["a.weight"] is weights["b.weight"]
        assert weights["c.weight"].tolist() == other.tolist()

    def test_of_shards_in_half_precision_is_the_undivided_model(self, folder: Path, parent: Path) -> None:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float16)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="10KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 2
        undivided = runtime.load(pipeline_for(folder), "cpu", threads=1)

        spread = load(folder, parent)

        assert spread.version.dtype == undivided.version.dtype == "float32"
        assert score(spread) == pytest.approx(score(undivided), abs=1e-5)
        copies = {path.name for path in parent.glob("weights-*/*.safetensors")}
        assert copies < {path.name for path in folder.glob("*.safetensors")}, "only those that are read"

    def test_is_not_kept_in_memory_for_later(self, folder: Path, parent: Path) -> None:
        loaded, cache = load(folder, parent), ModelCache(1e9)

        cache.put("it", loaded)

        assert not loaded.can_offload
        assert len(cache) == 0

    def test_removes_its_folder_with_the_model(self, folder: Path, parent: Path) -> None:
        loaded = load(folder, parent)
        assert list(parent.glob("weights-*/model.safetensors"))

        del loaded
        gc.collect()

        assert list(parent.glob("weights-*")) == []

    def test_is_kept_where_the_entry_says(self, folder: Path, parent: Path, tmp_path: Path) -> None:
        loaded = load(folder, parent, offload_folder=str(tmp_path / "disk"))

        assert loaded.is_spread
        assert list((tmp_path / "disk").glob("weights-*/model.safetensors"))
        assert not parent.exists()


class TestMachine:
    def test_too_little_memory_is_a_sentence_and_leaves_nothing(self, folder: Path, parent: Path) -> None:
        with pytest.raises(LoadFailed, match="max_memory has no room for the first layers of"):
            load(folder, parent, max_memory={"cpu": "0.001MB"})

        assert list(parent.glob("weights-*")) == []

    def test_a_missing_package_names_the_command(
        self, folder: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "accelerate", None)

        with pytest.raises(LoadFailed, match=r"device_map needs accelerate; run: pip install .*\[offload\]"):
            load(folder, parent)

    def test_a_folder_that_can_t_be_made_is_a_sentence(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")

        with pytest.raises(LoadFailed, match=r"weights can't be kept in .*/file/offload: .*; set offload_folder"):
            load(folder, tmp_path / "file" / "offload")

    def test_another_kind_of_device_is_a_sentence(self, folder: Path, parent: Path) -> None:
        with pytest.raises(LoadFailed, match="device_map needs CUDA devices or a CPU; this is mps"):
            SpreadLoad(pipeline_for(folder, device_map="auto"), torch.device("mps"), parent)

    def test_a_gpu_that_is_not_visible_is_a_sentence(
        self, folder: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: {0: 80 << 30, "cpu": 1 << 30})
        entry = pipeline_for(folder, device_map="auto", max_memory={"cuda:3": "20GiB"})

        with pytest.raises(LoadFailed, match="max_memory names cuda:3, but this process sees 1 of them"):
            SpreadLoad(entry, torch.device("cuda", 0), parent)

    def test_gpus_get_what_is_free_of_them_unless_some_are_named(
        self, folder: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: {0: 100, 1: 100, "cpu": 1_000})
        cuda = torch.device("cuda", 0)

        plain = SpreadLoad(pipeline_for(folder, device_map="auto"), cuda, parent)
        named = SpreadLoad(pipeline_for(folder, device_map="auto", max_memory={"cuda:1": "1MB"}), cuda, parent)

        assert plain.options["max_memory"] == {0: 80, 1: 80, "cpu": 800}
        assert named.options["max_memory"] == {1: 1_000_000, "cpu": 800}
        plain.abandon()
        named.abandon()
