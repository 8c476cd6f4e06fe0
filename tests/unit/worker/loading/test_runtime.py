"""The runtime: a pipeline is loaded exactly as the catalogue says, or refused with a sentence."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DistilBertForSequenceClassification

from models.errors import LoadFailed, ModelError
from models.hardware import processor
from models.pipelines import folder_hash
from models.pipelines.folder_hash import content_hash
from models.version import full_version
from tests.factories import tiny_models
from tests.factories.tiny_models import MAX_POSITIONS, pipeline_for
from worker.adapters.tasks import text_classification
from worker.loading import loaded_version, runtime, weights
from worker.loading.files import snapshots
from worker.loading.runtime import Runtime
from worker.loading.token_budgets import CPU_TOKENS_BY_WIDTH
from worker.loading.tokenizers import tokenizer_loading

Made = Callable[[str], Path]


class Panic(BaseException):
    """What libraries written in Rust raise: no Exception."""


@pytest.fixture(autouse=True)
def threads_put_back() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def load(folder: Path, **entry: Any) -> Runtime:
    return runtime.load(pipeline_for(folder, **entry), "cpu", threads=1)


def max_length(loaded: Runtime) -> int | None:
    length: int | None = loaded.adapter._limits.max_length  # type: ignore[attr-defined]
    return length


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestLoad:
    @pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "gpt2"])
    def test_takes_every_kind_of_classifier(self, made: Made, architecture: str) -> None:
        loaded = load(made(architecture))

        assert loaded.version.dtype == "float32"
        assert loaded.adapter.max_rows > 1

    def test_says_exactly_what_it_loaded(self, made: Made) -> None:
        folder = made("distilbert")

        version = load(folder).version

        assert (version.task, version.model, version.tokenizer) == ("sentiment-analysis", str(folder), str(folder))
        assert version.revision == version.tokenizer_revision == content_hash(folder)
        assert (version.device, version.quantization) == ("cpu", None)
        assert version.libraries["torch"] == torch.__version__
        assert set(version.libraries) == {"batchmill", "torch", "transformers", "tokenizers"}

    def test_says_when_the_tokenizer_is_another_s(self, made: Made) -> None:
        version = load(made("distilbert"), tokenizer=str(made("bert"))).version

        assert version.tokenizer == str(made("bert"))
        assert version.tokenizer_revision == content_hash(made("bert")) != version.revision

    def test_uses_as_many_threads_as_it_is_given(self, made: Made) -> None:
        runtime.load(pipeline_for(made("distilbert")), "cpu", threads=2)
        assert torch.get_num_threads() == 2

        runtime.load(pipeline_for(made("distilbert")), "cpu", threads=1)
        assert torch.get_num_threads() == 1


class TestDtype:
    @pytest.fixture
    def halved(self, distilbert: Path) -> Path:
        """A checkpoint in half precision, as many on the Hub are."""
        DistilBertForSequenceClassification.from_pretrained(distilbert).half().save_pretrained(distilbert)
        assert load_file(distilbert / "model.safetensors")["classifier.weight"].dtype == torch.float16
        return distilbert

    def test_is_float32_on_a_cpu_whatever_the_checkpoint_s(self, halved: Path) -> None:
        loaded = load(halved)

        assert loaded.version.dtype == "float32"
        parameters = loaded.adapter._pipeline.model.parameters()  # type: ignore[attr-defined]
        assert {parameter.dtype for parameter in parameters} == {torch.float32}

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_is_as_the_catalogue_says(self, made: Made, dtype: str) -> None:
        assert load(made("distilbert"), dtype=dtype).version.dtype == dtype

    @pytest.mark.parametrize("has_instructions", [True, False])
    def test_is_warned_about_where_the_processor_has_no_instructions_for_it(
        self, made: Made, monkeypatch: pytest.MonkeyPatch, has_instructions: bool
    ) -> None:
        monkeypatch.setattr(processor, "has_instructions_for", lambda _dtype: has_instructions)

        with structlog.testing.capture_logs() as records:
            load(made("distilbert"), dtype="bfloat16")

        warnings = [record for record in records if record["event"] == "model.slow_dtype"]
        assert [(record["dtype"], record["device_name"]) for record in warnings] == [("bfloat16", "cpu")] * (
            not has_instructions
        )


class TestTokensPerBatch:
    def load(self, folder: Path, given: int | None, catalogue: int | None) -> int:
        entry = pipeline_for(folder, tokens_per_batch=catalogue)
        return runtime.load(entry, "cpu", threads=1, micro_batch_tokens=given).micro_batch_tokens

    @pytest.mark.parametrize(
        ("given", "catalogue", "expected"), [(7, 9, 7), (None, 9, 9), (None, None, CPU_TOKENS_BY_WIDTH[0][1])]
    )
    def test_is_the_operator_s_then_the_catalogue_s_then_the_device_s(
        self, made: Made, given: int | None, catalogue: int | None, expected: int
    ) -> None:
        assert self.load(made("distilbert"), given, catalogue) == expected


class TestMaxLength:
    def test_is_what_the_tokenizer_says(self, tmp_path: Path) -> None:
        folder = tiny_models.bert(tmp_path / "short", tokenizer=tiny_models.wordpiece_tokenizer(20))

        assert max_length(load(folder)) == 20

    @pytest.mark.parametrize("said", [None, 512])
    def test_is_never_more_than_the_model_has_positions(self, tmp_path: Path, said: int | None) -> None:
        folder = tiny_models.bert(tmp_path / "long", tokenizer=tiny_models.wordpiece_tokenizer(said))

        assert max_length(load(folder)) == MAX_POSITIONS

    @pytest.mark.parametrize("said", [None, 512])
    def test_leaves_room_for_roberta_s_first_two_positions(self, tmp_path: Path, said: int | None) -> None:
        folder = tiny_models.roberta(tmp_path / "roberta", tokenizer=tiny_models.byte_tokenizer(said))

        assert max_length(load(folder)) == MAX_POSITIONS - 2

    @pytest.mark.parametrize(("asked", "expected"), [(10, 10), (64, 64), (1000, 64)])
    def test_is_the_catalogue_s_up_to_that(self, made: Made, asked: int, expected: int) -> None:
        assert max_length(load(made("distilbert"), max_length=asked)) == expected

    @pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "gpt2"])
    def test_fits_into_the_model(self, made: Made, architecture: str) -> None:
        loaded = load(made(architecture))
        longest = max_length(loaded)
        assert longest is not None

        model = loaded.adapter._pipeline.model  # type: ignore[attr-defined]
        with torch.inference_mode():
            model(input_ids=torch.full((1, longest), 5))
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, longest + 1), 5))


class TestRefusals:
    def refused(self, folder: Path, **entry: Any) -> str:
        with pytest.raises((ModelError, LoadFailed)) as caught:
            load(folder, **entry)
        if isinstance(caught.value, ModelError):
            assert caught.value.revision == content_hash(folder)
        sentence = str(caught.value)
        assert "\n" not in sentence
        return sentence

    def test_of_another_head_names_it(self, tmp_path: Path) -> None:
        sentence = self.refused(tiny_models.masked_bert(tmp_path / "masked"))

        assert "is a BertForMaskedLM, which is not a model for this task" in sentence

    def test_of_another_head_that_is_not_named_names_what_lacks(self, tmp_path: Path) -> None:
        folder = tiny_models.masked_bert(tmp_path / "masked")
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"BertForMaskedLM"', ""))

        sentence = self.refused(folder)

        assert sentence.startswith(f"{folder} is not a model for this task: it has no weights for ")
        assert "classifier.bias" in sentence

    def test_of_a_kind_of_model_that_cannot_do_the_task_names_the_kind(self, tmp_path: Path) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"DistilBertForSequenceClassification"', ""))

        assert "is a distilbert model, which can't do this task" in self.refused(folder, task="summarization")

    def test_of_a_tokenizer_whose_files_are_missing(self, tmp_path: Path) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")
        (folder / "tokenizer.json").unlink()

        assert "knows no words; its files (tokenizer.json) are missing" in self.refused(folder)

    def test_of_weights_that_lack_a_layer_name_it(self, distilbert: Path) -> None:
        weights = load_file(distilbert / "model.safetensors")
        del weights["distilbert.transformer.layer.1.ffn.lin1.weight"]
        save_file(weights, distilbert / "model.safetensors", metadata={"format": "pt"})

        assert "transformer.layer.1.ffn.lin1.weight" in self.refused(distilbert)

    @pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
    def test_of_truncated_weights(self, distilbert: Path, kept: float) -> None:
        path = distilbert / "model.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])

        assert "can't be loaded" in self.refused(distilbert)

    def test_of_weights_of_another_shape(self, distilbert: Path) -> None:
        edit(distilbert / "config.json", dim=64)

        assert "can't be loaded" in self.refused(distilbert)

    def test_of_labels_that_the_head_does_not_have(self, distilbert: Path) -> None:
        edit(distilbert / "config.json", id2label={str(number): f"LABEL_{number}" for number in range(5)})

        assert "can't be loaded" in self.refused(distilbert)

    def test_of_an_unknown_architecture(self, distilbert: Path) -> None:
        edit(distilbert / "config.json", model_type="never-heard-of", architectures=["NeverHeardOf"])

        assert "can't be loaded" in self.refused(distilbert)

    def test_of_pickled_weights(self, distilbert: Path) -> None:
        (distilbert / "model.safetensors").unlink()
        torch.save({}, distilbert / "pytorch_model.bin")

        assert "has no safetensors weights" in self.refused(distilbert)

    def test_of_code_of_its_own(self, distilbert: Path) -> None:
        (distilbert / "code.py").write_text("raise SystemExit('it ran')")
        edit(distilbert / "config.json", auto_map={"AutoModelForSequenceClassification": "code.Model"})

        assert "asks to run its own code" in self.refused(distilbert)

    def test_of_a_broken_tokenizer(self, distilbert: Path) -> None:
        (distilbert / "tokenizer.json").write_text('{"version": "1.0"')

        assert f"the tokenizer of {distilbert} can't be loaded" in self.refused(distilbert)

    @pytest.mark.parametrize("kind", ["cuda", "mps"])
    def test_of_a_device_that_is_not_there(self, made: Made, kind: str) -> None:
        if torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available():
            pytest.skip("this machine has one")

        sentence = self.refused(made("distilbert"), device=kind)

        assert sentence.startswith(f"device {kind} is not on this machine")
        assert sentence.endswith("; " + weights.DEVICE_ADVICE)


class TestWhoseFault:
    """An error that this machine explains is never the model's."""

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.EMFILE, "Too many open files"),
            OSError(errno.EIO, "Input/output error"),
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory"),
            ImportError("No module named 'detectron2'"),
            RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
            RuntimeError("Found no NVIDIA driver on your system"),
        ],
    )
    @pytest.mark.parametrize("where", ["weights", "tokenizer", "adapter"])
    def test_is_the_machine_s(
        self, distilbert: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
    ) -> None:
        fail_in(monkeypatch, where, error)

        with pytest.raises(LoadFailed, match="on this machine now"):
            load(distilbert)

    @pytest.mark.parametrize("error", [AttributeError("x"), TypeError("x"), KeyError("x"), Panic("x")])
    @pytest.mark.parametrize("where", ["weights", "tokenizer", "adapter"])
    def test_is_the_content_s_where_nothing_else_explains_it(
        self, distilbert: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
    ) -> None:
        fail_in(monkeypatch, where, error)

        with pytest.raises(ModelError, match=type(error).__name__) as caught:
            load(distilbert)

        assert caught.value.revision == content_hash(distilbert)

    def test_is_nobody_s_where_the_folder_changed_meanwhile(
        self, distilbert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change(*_args: Any, **_named: Any) -> None:
            edit(distilbert / "config.json", changed=True)
            raise ValueError("half of it")

        monkeypatch.setattr(weights, "load", change)

        with pytest.raises(LoadFailed, match="changed while it was loaded"):
            load(distilbert)

    @pytest.mark.parametrize("limit", ["512", [512]])
    def test_a_limit_that_is_no_number_is_named(self, distilbert: Path, limit: Any) -> None:
        edit(distilbert / "tokenizer_config.json", model_max_length=limit)

        with pytest.raises(ModelError, match=r"model_max_length is .*, which is no number"):
            load(distilbert)


def fail_in(monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException) -> None:
    def fail(*_args: Any, **_named: Any) -> None:
        raise error

    if where == "weights":
        monkeypatch.setattr(DistilBertForSequenceClassification, "from_pretrained", fail)
    elif where == "tokenizer":
        monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    else:
        monkeypatch.setattr(text_classification.TextClassification, "__init__", fail)


class TestFolderThatChanges:
    """Results never bear a revision that their model was not read from."""

    @pytest.fixture
    def other(self, distilbert: Path, tmp_path: Path) -> Path:
        """The same model with other weights."""
        other = tmp_path / "other"
        shutil.copytree(distilbert, other)
        halved = {name: tensor / 2 for name, tensor in load_file(other / "model.safetensors").items()}
        save_file(halved, other / "model.safetensors", metadata={"format": "pt"})
        return other

    CHANGES = {  # noqa: RUF012
        "a file is swapped": lambda folder, other: (other / "model.safetensors").rename(folder / "model.safetensors"),
        "a file is written over": lambda folder, other: (folder / "model.safetensors").write_bytes(
            (other / "model.safetensors").read_bytes()
        ),
        "a file is added": lambda folder, _: (folder / "chat_template.jinja").write_text("{{ messages }}"),
        "a file is taken away": lambda folder, _: (folder / "tokenizer_config.json").unlink(),
        "a configuration is changed": lambda folder, _: edit(folder / "config.json", attn_implementation="eager"),
        "a file comes and goes": lambda folder, _: [
            shutil.copy(folder / "config.json", folder / ".old"),
            edit(folder / "config.json", attn_implementation="eager"),
            (folder / ".old").replace(folder / "config.json"),
        ],
    }

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    @pytest.mark.parametrize("moment", ["check", "tokenizer"])
    @pytest.mark.parametrize("settled", [True, False])
    def test_is_noticed_whenever_it_does(
        self, distilbert: Path, other: Path, monkeypatch: pytest.MonkeyPatch, change: Any, moment: str, settled: bool
    ) -> None:
        """Between hashing and loading, or between the weights and the tokenizer."""
        if settled:
            monkeypatch.setattr(folder_hash, "STABLE_AFTER_SECONDS", -60.0)
        place, name = (snapshots, "check") if moment == "check" else (tokenizer_loading, "load")
        original = getattr(place, name)

        def changing(*arguments: Any) -> Any:
            change(distilbert, other)
            return original(*arguments)

        monkeypatch.setattr(place, name, changing)

        with pytest.raises(LoadFailed, match="changed while it was loaded; it will be loaded again"):
            load(distilbert)

        monkeypatch.setattr(place, name, original)
        assert load(distilbert).version.revision == content_hash(distilbert)

    def test_is_noticed_where_it_is_the_tokenizer_s(
        self, made: Made, distilbert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = tokenizer_loading.load

        def changing(files: Any) -> Any:
            edit(distilbert / "tokenizer_config.json", do_lower_case=False)
            return original(files)

        monkeypatch.setattr(tokenizer_loading, "load", changing)

        with pytest.raises(LoadFailed, match=f"{distilbert} changed while it was loaded"):
            load(made("distilbert"), tokenizer=str(distilbert))

    def test_is_to_blame_where_it_can_t_be_loaded_meanwhile(
        self, distilbert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A model that is being copied is not unusable."""
        original = snapshots.check

        def truncating(*arguments: Any) -> Any:
            original(*arguments)
            (distilbert / "model.safetensors").write_bytes(b"")

        monkeypatch.setattr(snapshots, "check", truncating)

        with pytest.raises(LoadFailed, match="changed while it was loaded"):
            load(distilbert)

    @pytest.mark.parametrize("entry", [{}, {"quantization": "int8"}, {"deterministic": True}])
    def test_later_changes_nothing_of_what_is_loaded(self, distilbert: Path, other: Path, entry: Any) -> None:
        loaded = load(distilbert, **entry)
        before = [tensor.clone() for tensor in loaded.model.parameters()]
        weights = (other / "model.safetensors").read_bytes()

        with (distilbert / "model.safetensors").open("r+b") as file:
            file.write(weights)
        assert all(map(torch.equal, before, loaded.model.parameters()))

        (distilbert / "model.safetensors").write_bytes(b"")  # else reading the weights would be a bus error
        assert all(map(torch.equal, before, loaded.model.parameters()))


def test_results_name_the_commit_of_batchmill() -> None:
    libraries = loaded_version.library_versions()

    assert libraries["batchmill"] == full_version()
    assert libraries.keys() == {"batchmill", "torch", "transformers", "tokenizers"}
