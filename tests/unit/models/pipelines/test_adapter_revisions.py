"""The adapter of a pipeline: what an entry must say, and the one revision of a model and its adapter."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline, join_revisions, split_revision
from models.settings import Settings

BASE, ADAPTER, OTHER = "a" * 40, "b" * 40, "c" * 40


def entry(**fields: Any) -> Pipeline:
    return Pipeline(**{"name": "made", "task": "sentiment-analysis", "model": "org/base", **fields})


class TestEntry:
    @pytest.mark.parametrize("revision", [None, "main", "b" * 39, "B" * 40])
    def test_an_adapter_of_the_hub_must_be_pinned(self, revision: str | None) -> None:
        with pytest.raises(ValidationError, match="adapter_revision must be a full commit of the Hub"):
            entry(adapter="org/adapter", adapter_revision=revision)

    def test_a_folder_needs_no_pin(self) -> None:
        assert entry(adapter="/data/adapter").adapter_folder == Path("/data/adapter")

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"adapter_revision": ADAPTER}, "has no effect without adapter"),
            ({"adapter": "bundled:made"}, "no adapter is bundled"),
            ({"adapter": "/data/adapter", "device_map": "auto"}, "does not go with device_map"),
            ({"adapter": "/data/adapter", "quantization": "torchao-int8"}, "only if deterministic = true"),
            ({"adapter": "/data/adapter", "quantization": "torchao-float8"}, "only if deterministic = true"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(ValidationError, match=problem):
            entry(**fields)

    @pytest.mark.parametrize(
        "fields", [{"quantization": "int8"}, {"quantization": "torchao-int8", "deterministic": True}]
    )
    def test_it_goes_with_quantization_that_keeps_rows_apart(self, fields: dict[str, Any]) -> None:
        assert entry(adapter="/data/adapter", **fields).adapter == "/data/adapter"

    def test_a_folder_is_relative_to_the_settings_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "batchmill.toml").write_text(
            '[pipelines.made]\ntask = "ner"\nmodel = "org/base"\nadapter = "./adapter"\n'
        )
        monkeypatch.setenv("BATCHMILL_CONFIG", str(tmp_path / "batchmill.toml"))

        assert Catalogue.load(Settings.load())["made"].adapter_folder == tmp_path / "adapter"


class TestSettingsHash:
    def test_is_another_with_an_adapter_and_the_same_on_all_machines(self) -> None:
        hashes = {entry(adapter=f"/{disk}/adapter").settings_hash for disk in ("data", "mnt")}

        assert len(hashes) == 1
        assert hashes.isdisjoint({entry().settings_hash, entry(adapter="/data/other").settings_hash})


class TestBatchRevision:
    @pytest.mark.parametrize("revisions", [(BASE, None), (BASE, ADAPTER), ("sha256:1", "sha256:2")])
    def test_has_both_and_gives_both_back(self, revisions: tuple[str, str | None]) -> None:
        assert split_revision(join_revisions(*revisions)) == revisions

    @pytest.mark.parametrize(
        ("fields", "pinned"),
        [
            ({}, None),
            ({"revision": BASE}, BASE),
            ({"revision": BASE, "adapter": "org/adapter", "adapter_revision": ADAPTER}, f"{BASE}+{ADAPTER}"),
            ({"adapter": "org/adapter", "adapter_revision": ADAPTER}, None),
            ({"revision": BASE, "adapter": "/data/adapter"}, None),
        ],
    )
    def test_is_known_at_submit_if_both_are_pinned(self, fields: dict[str, Any], pinned: str | None) -> None:
        assert entry(**fields).pinned_revision == pinned

    def test_an_entry_is_pinned_to_that_of_a_batch(self) -> None:
        pinned = entry(adapter="org/adapter", adapter_revision=ADAPTER).at_revision(f"{BASE}+{OTHER}")

        assert (pinned.revision, pinned.adapter_revision) == (BASE, OTHER)

    @pytest.mark.parametrize(
        ("fields", "batch", "loaded", "has"),
        [
            ({}, BASE, OTHER, True),
            ({"model": "/base"}, "sha256:1", "sha256:2", False),
            ({}, f"{BASE}+{ADAPTER}", BASE, False),  # the batch began with an adapter
            ({"adapter": "org/a", "adapter_revision": ADAPTER}, BASE, f"{BASE}+{ADAPTER}", False),
            ({"adapter": "org/a", "adapter_revision": ADAPTER}, f"{OTHER}+{OTHER}", f"{BASE}+{ADAPTER}", True),
            ({"adapter": "/a"}, f"{OTHER}+sha256:1", f"{BASE}+sha256:1", True),
            ({"adapter": "/a"}, f"{BASE}+sha256:1", f"{BASE}+sha256:2", False),
        ],
    )
    def test_is_to_be_had_if_no_folder_has_changed(
        self, fields: dict[str, Any], batch: str, loaded: str, has: bool
    ) -> None:
        assert entry(**fields).has_revision(batch, loaded) is has
