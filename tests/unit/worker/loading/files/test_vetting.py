"""Vetting: what a model's files may say; what would bring code, or other files, along is refused by name."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError
from tests.factories.sentence_models import module_list, write_json
from tests.factories.tiny_models import pipeline_for
from worker.loading import runtime
from worker.loading.files import vetting
from worker.loading.files.vetting import ATTENTION_IMPLEMENTATIONS, CODE_KEYS

KERNEL = "made-org/kernel"
KERNELS = [KERNEL, f"{KERNEL}@v1", f"{KERNEL}:function", f"paged|{KERNEL}", "paged|sdpa", "sage", "EAGER", 7]

ATTENTION_KEYS = ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"]
CONFIGS = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "config.4.0.json",
    "tokenizer_config.4.0.json",
    "deeper/config.json",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        vetting.check("made", folder)
    return str(caught.value)


class TestAttention:
    @pytest.mark.parametrize("key", ATTENTION_KEYS)
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_that_is_none_of_transformers_own_is_refused(self, folder: Path, key: str, kernel: Any) -> None:
        for said in (kernel, {"": "eager", "text_config": kernel}, {"vision_config": {"": kernel}}):
            write(folder / "config.json", {key: said})
            assert "asks for the attention" in refused(folder)

    @pytest.mark.parametrize("config", CONFIGS)
    def test_is_looked_at_in_every_configuration_however_deep(self, folder: Path, config: str) -> None:
        write(folder / config, {"text_config": {"parts": [{"attn_implementation": KERNEL}]}})

        assert refused(folder) == (
            f"made asks for the attention '{KERNEL}', which transformers would fetch as code "
            f"(attn_implementation in {Path(config).name}); that is refused"
        )

    @pytest.mark.parametrize("key", ATTENTION_KEYS)
    @pytest.mark.parametrize("attention", [*ATTENTION_IMPLEMENTATIONS, None, {"": "eager", "text_config": "sdpa"}, {}])
    def test_of_transformers_own_passes(self, folder: Path, key: str, attention: Any) -> None:
        write(folder / "config.json", {key: attention})

        vetting.check("made", folder)

    def test_that_passes_is_the_one_that_is_used(self, distilbert: Path) -> None:
        config = json.loads((distilbert / "config.json").read_text())
        write(distilbert / "config.json", {**config, "_attn_implementation": "eager"})

        assert runtime.load(pipeline_for(distilbert), "cpu").version.attention == "eager"
        assert runtime.load(pipeline_for(distilbert, attention="sdpa"), "cpu").version.attention == "sdpa"

    @pytest.mark.parametrize("key", ["experts_implementation", "_experts_implementation"])
    def test_of_experts_is_held_to_the_same(self, folder: Path, key: str) -> None:
        write(folder / "config.json", {key: "deepgemm"})

        assert "the experts' implementation 'deepgemm'" in refused(folder)


class TestCode:
    @pytest.mark.parametrize("key", CODE_KEYS)
    @pytest.mark.parametrize("config", ["config.json", "tokenizer_config.json", "generation_config.json"])
    def test_is_refused_by_its_key(self, folder: Path, key: str, config: str) -> None:
        write(folder / config, {"text_config": {key: {"AutoModel": "code.Model"}}})

        assert refused(folder) == f"made asks to run its own code ({key} in {config}); that is refused"

    @pytest.mark.parametrize("said", [None, False, {}, [], [None, None]])
    def test_that_is_not_named_is_none(self, folder: Path, said: Any) -> None:
        write(folder / "config.json", {"auto_map": said, "trust_remote_code": said})

        vetting.check("made", folder)

    def test_is_not_what_a_label_or_a_word_is_called(self, folder: Path) -> None:
        write(folder / "config.json", {"label2id": {"auto_map": 1}, "id2label": {"1": "use_kernels"}})
        write(folder / "vocab.json", {"auto_map": 17, "use_kernels": 18})

        vetting.check("made", folder)

    def test_that_lies_in_the_folder_is_not_run(self, distilbert: Path, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        program = f"open({str(canary)!r}, 'w')\n"
        for name in ("modeling.py", "configuration_distilbert.py", "tokenization.py", "custom_generate/generate.py"):
            (distilbert / name).parent.mkdir(exist_ok=True)
            (distilbert / name).write_text(program)
        for name in ("pytorch_model.bin", "vocab.pkl", "tokenizer.pkl", "adapter_model.bin"):
            (distilbert / name).write_bytes(f"cbuiltins\nopen\n(V{canary}\nVw\ntR.".encode())

        runtime.load(pipeline_for(distilbert), "cpu")

        assert not canary.exists()


class TestOtherFiles:
    @pytest.mark.parametrize("content", ["{}", '{"base_model_name_or_path": "made-org/other"}'])
    def test_of_an_adapter_s_model_are_refused(self, folder: Path, content: str) -> None:
        (folder / "adapter_config.json").write_text(content)

        assert "set model to that one, and adapter to this" in refused(folder)

    def test_of_an_adapter_beside_a_transformer_apart_are_refused(self, folder: Path) -> None:
        (folder / "config.json").unlink(missing_ok=True)
        write_json(folder / "modules.json", module_list([("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")]))
        write_json(folder / "0_Transformer" / "adapter_config.json", {})

        assert "set model to that one, and adapter to this" in refused(folder)

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ("config.json", {"configuration_files": ["config.4.0.json"]}),
            ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}),
        ],
    )
    def test_that_a_configuration_names_are_refused(self, folder: Path, config: str, said: Any) -> None:
        write(folder / config, said)

        assert "points to other files" in refused(folder)

    @pytest.mark.parametrize(
        "weights", ["../a.safetensors", "/a.safetensors", ".a.safetensors", "deeper/a.safetensors", "a.bin", "", 7]
    )
    def test_with_weights_are_refused(self, folder: Path, weights: Any) -> None:
        write(folder / "model.safetensors.index.json", {"weight_map": {"layer": weights}})
        assert "which are no weights in its folder" in refused(folder)

        (folder / "model.safetensors.index.json").unlink()
        write(folder / "config.json", {"transformers_weights": weights or "x"})
        assert "points to weights outside of its folder" in refused(folder)

    @pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "any"])
    def test_that_are_no_regular_ones_are_refused(self, folder: Path, name: str) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        assert "is not a regular file" in refused(folder)

        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        assert "is not a regular file" in refused(folder)

    def test_behind_a_link_to_a_folder_are_refused(self, folder: Path, tmp_path: Path) -> None:
        (folder / "additional_chat_templates").symlink_to(tmp_path)

        assert "is a link to a folder" in refused(folder)

    def test_that_are_links_to_files_pass_as_in_the_hub_s_cache(self, folder: Path, tmp_path: Path) -> None:
        shutil.move(folder / "config.json", tmp_path / "blob")
        (folder / "config.json").symlink_to(tmp_path / "blob")

        vetting.check("made", folder)


class TestValues:
    @pytest.mark.parametrize(
        "method", ["hqq", "torchao", "gptq", "awq", "fp8", "quanto", "compressed-tensors", "x" * 1000, None]
    )
    def test_of_quantizations_that_others_load_are_refused(self, folder: Path, method: Any) -> None:
        write(folder / "config.json", {"text_config": {"quantization_config": {"quant_method": method, "bits": 4}}})

        assert "only bitsandbytes is loaded here" in refused(folder)

    @pytest.mark.parametrize("said", [{"quant_method": "bitsandbytes"}, {"load_in_8bit": True}, {}, None])
    def test_of_bitsandbytes_pass(self, folder: Path, said: Any) -> None:
        write(folder / "config.json", {"quantization_config": said})

        vetting.check("made", folder)

    @pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
    @pytest.mark.parametrize("said", ["load", "hub", "float32; x", "torch.load", "", 7, {"text_config": "jit"}])
    def test_of_precisions_that_are_none_are_refused(self, folder: Path, key: str, said: Any) -> None:
        write(folder / "config.json", {key: said})

        assert "names a precision that there is none of" in refused(folder)

    @pytest.mark.parametrize("said", ["float32", "torch.bfloat16", "auto", "float8_e4m3fn", None, {"": "float16"}])
    def test_of_precisions_pass(self, folder: Path, said: Any) -> None:
        write(folder / "config.json", {"dtype": said})

        vetting.check("made", folder)

    @pytest.mark.parametrize("said", ["pipeline", "AutoModel", "Trainer", "os.system", "../Tokenizer", ["x"], 7])
    def test_of_tokenizers_that_are_none_are_refused(self, folder: Path, said: Any) -> None:
        write(folder / "tokenizer_config.json", {"tokenizer_class": said})

        assert "names a tokenizer that is none" in refused(folder)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("[" * 50_000, "can't be read"),
            (f'{{"a": {"[" * 200}{"]" * 200}}}', "is nested more than 100 deep"),
            ("[]", "is not an object"),
            ("{", "can't be read"),
            ("\udcff", "can't be read"),
        ],
    )
    def test_that_are_no_configuration_are_refused(self, folder: Path, content: str, reason: str) -> None:
        (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))

        assert reason in refused(folder)

    def test_past_any_size_are_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vetting, "MAX_CONFIG_BYTES", 1 << 20)
        (folder / "config.json").write_text("{" + " " * (1 << 20) + "}")

        assert "has more than 1 MiB" in refused(folder)


class TestTokenizer:
    def test_of_another_folder_is_vetted_too(self, made: Callable[[str], Path], distilbert: Path) -> None:
        write(distilbert / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization.Made", None]}})

        with pytest.raises(ModelError, match=r"asks to run its own code \(auto_map in tokenizer_config.json\)"):
            runtime.load(pipeline_for(made("bert"), tokenizer=str(distilbert)), "cpu")


PROGRAM = """
import sys
import worker
from transformers.utils import is_peft_available
from transformers.utils.import_utils import is_kernels_available
print(is_kernels_available(), is_peft_available(), "kernels" in sys.modules and sys.modules["kernels"])
"""


def test_packages_that_fetch_code_are_not_there_for_transformers(tmp_path: Path) -> None:
    for name in ("kernels", "peft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("__version__ = '0.99'\nprint('imported')\n")
        (tmp_path / f"{name}-0.99.dist-info").mkdir()
        (tmp_path / f"{name}-0.99.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.99\n"
        )
    environment = {**os.environ, "PYTHONPATH": f"{Path.cwd()}{os.pathsep}{tmp_path}"}

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=180, env=environment
    )

    assert done.stdout.split() == ["False", "False", "None"]
