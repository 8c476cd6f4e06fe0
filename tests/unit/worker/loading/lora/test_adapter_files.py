"""The files of an adapter: what is refused by name, before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.errors import ModelError
from models.pipelines.folder_hash import content_hash
from worker.loading.files.snapshots import Snapshot
from worker.loading.lora.adapter_files import WEIGHTS_NAME, AdapterFiles, check_config


def read(folder: Path) -> AdapterFiles:
    return AdapterFiles.read(Snapshot("org/adapter", folder, content_hash(folder)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": "org/Base", "lora_dropout": 0.1}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"a.lora_A.weight": torch.ones(4, 4)}, tmp_path / WEIGHTS_NAME)
    return tmp_path


class TestRead:
    def test_layers_get_only_the_options_of_layers(self, folder: Path) -> None:
        assert read(folder).layer_options == {"r": 4}

    @pytest.mark.parametrize(
        ("model", "is_other"),
        [("org/base", False), ("/data/base", False), ("bundled:base", False), ("org/base-large", True)],
    )
    def test_another_model_is_noticed_by_its_name(self, folder: Path, model: str, is_other: bool) -> None:
        assert read(folder).is_for_other(model) is is_other

    def test_labels_come_from_a_config_beside_it(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"id2label": {"0": "NO", "1": "YES"}}))

        assert read(folder).labels == {0: "NO", 1: "YES"}

    @pytest.mark.parametrize("labels", [{"0": "NO", "2": "YES"}, {"first": "NO"}, ["NO"], {}, None])
    def test_labels_that_are_not_numbered_do_not_count(self, folder: Path, labels: Any) -> None:
        (folder / "config.json").write_text(json.dumps({"id2label": labels}))

        assert read(folder).labels is None

    def test_pickled_weights_are_refused_and_never_read(self, folder: Path) -> None:
        (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")

        with pytest.raises(ModelError, match=r"has no adapter_model.safetensors, and other formats can run code"):
            read(folder)

    @pytest.mark.parametrize("kept_bytes", [0, 4, 100, -1])
    def test_damaged_weights_are_refused(self, folder: Path, kept_bytes: int) -> None:
        path = folder / WEIGHTS_NAME
        path.write_bytes(path.read_bytes()[:kept_bytes])

        with pytest.raises(ModelError, match=r"org/adapter: adapter_model.safetensors is damaged .*; fetch or save it"):
            read(folder)

    def test_weights_in_several_files_are_refused(self, folder: Path) -> None:
        (folder / WEIGHTS_NAME).rename(folder / "adapter_model-00001-of-00002.safetensors")

        with pytest.raises(ModelError, match="has its weights in several files"):
            read(folder)

    def test_a_model_is_no_adapter(self, folder: Path) -> None:
        (folder / "adapter_config.json").unlink()

        with pytest.raises(ModelError, match="it is no adapter; set model instead"):
            read(folder)

    def test_code_in_its_other_files_is_refused(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))

        with pytest.raises(ModelError, match="asks to run its own code"):
            read(folder)

    @pytest.mark.parametrize("content", ["[]", "{", "7"])
    def test_a_damaged_configuration_is_refused(self, folder: Path, content: str) -> None:
        (folder / "adapter_config.json").write_text(content)

        with pytest.raises(ModelError, match=r"adapter_config.json"):
            read(folder)


class TestCheckConfig:
    @pytest.mark.parametrize("kind", ["PROMPT_TUNING", "IA3", "ADALORA", None, 7])
    def test_other_kinds_are_refused_by_name(self, kind: Any) -> None:
        with pytest.raises(ModelError, match=f"is an adapter of the kind '{kind}', and only LORA is taken"):
            check_config("a", {"peft_type": kind})

    @pytest.mark.parametrize(
        "option",
        [
            {"megatron_config": {"x": 1}},
            {"layer_replication": [[0, 2]]},
            {"trainable_token_indices": [1]},
            {"alora_invocation_tokens": [1]},
            {"target_parameters": ["experts.weight"]},
            {"auto_map": {"AutoModel": "modeling.Model"}},
            {"option_of_2030": True},
        ],
        ids=lambda option: next(iter(option)),
    )
    def test_options_that_are_not_known_to_be_safe_are_refused_by_name(self, option: dict[str, Any]) -> None:
        with pytest.raises(ModelError, match=f"has the option '{next(iter(option))}', which is not taken"):
            check_config("a", {"peft_type": "LORA", **option})

    @pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora", "loftq", "PiSSA"])
    def test_initializations_that_change_the_model_are_refused(self, init: str) -> None:
        with pytest.raises(ModelError, match="changes the model's own weights"):
            check_config("a", {"peft_type": "LORA", "init_lora_weights": init})

    def test_options_for_training_are_taken(self) -> None:
        idle = {
            "inference_mode": True,
            "auto_mapping": {"base_model_class": "X"},
            "loftq_config": {},
            "eva_config": None,
        }

        check_config("a", {"peft_type": "LORA", "init_lora_weights": "gaussian", "bias": "all", **idle})

    def test_names_of_modules_must_be_a_list_of_names(self) -> None:
        with pytest.raises(ModelError, match="is no list of names"):
            check_config("a", {"peft_type": "LORA", "modules_to_save": {"classifier": 1}})
