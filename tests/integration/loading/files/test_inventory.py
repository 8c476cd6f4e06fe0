"""`batchmill models` on a local stand-in of the Hub's cache, and the conversion of pickled weights."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

import batchmill
from models.db import Database
from models.pipelines.folder_hash import content_hash
from models.pipelines.pipeline import SAMPLES_FOLDER
from models.schema import upgrade
from tests.factories import cross_encoders, sentence_models, tiny_models
from tests.factories.batch_rows import insert_batch
from tests.factories.lora_adapters import adapter_for, edit_config
from worker.loading import runtime
from worker.loading.files import safetensors_conversion, snapshots
from worker.loading.runtime import Runtime

REPOSITORY, COMMIT = "made-org/made-model", "1234567890abcdef" * 2 + "12345678"


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the cache at one commit, which the pipeline `made` names; its folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "batchmill.toml").write_text(
        f'[pipelines.made]\ntask = "sentiment-analysis"\nmodel = "{REPOSITORY}"\nrevision = "{COMMIT}"\n'
    )
    monkeypatch.setenv("BATCHMILL_CONFIG", str(tmp_path / "batchmill.toml"))
    place = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return tiny_models.bert(place / "snapshots" / COMMIT)


@pytest.fixture
def database(batchmill_home: Path) -> Database:
    """The embedded database."""
    url = f"sqlite:///{batchmill_home / 'batchmill.db'}"
    upgrade(url)
    return Database(url)


def run(*command: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["models", *command])


def entry() -> Any:
    from models.pipelines.catalogue import Catalogue
    from models.settings import Settings

    return Catalogue.load(Settings.load())["made"]


def pickled(folder: Path, weights: Any) -> None:
    """Replace the safetensors by what old repositories have."""
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


class TestCommands:
    def test_ls_says_what_is_here_and_which_batches_used_it(self, snapshot: Path, database: Database) -> None:
        for _ in range(2):
            insert_batch(database, 1, pipeline="made", model=REPOSITORY, revision=COMMIT)

        listed = {item["model"]: item for item in json.loads(run("ls", "--json").stdout)["data"]}

        made = listed[REPOSITORY]
        assert (made["where"], made["revision"], made["pipelines"], made["batches"]) == ("cache", COMMIT, ["made"], 2)
        assert made["size_bytes"] == sum(path.stat().st_size for path in snapshot.iterdir())
        assert listed["openai-community/gpt2"]["where"] == "missing"
        assert listed["openai-community/gpt2"]["dtype"] is None
        assert listed["bundled:sentiment-analysis"]["where"] == "bundled"
        assert listed["bundled:sentiment-analysis"]["revision"].startswith("sha256:")
        assert REPOSITORY in run("ls").stdout

    @pytest.mark.parametrize(("dtype", "on_gpu"), [("auto", "float32"), ("float16", "float16")])
    def test_ls_and_show_have_the_dtype_of_the_files_and_that_in_use(
        self, snapshot: Path, tmp_path: Path, dtype: str, on_gpu: str
    ) -> None:
        assert (snapshot / "model.safetensors").is_file()
        with (tmp_path / "batchmill.toml").open("a") as file:
            file.write(f'dtype = "{dtype}"\n')

        [made] = [item for item in json.loads(run("ls", "--json").stdout)["data"] if item["model"] == REPOSITORY]
        effective = json.loads(run("show", "made", "--json").stdout)["effective"]

        assert (made["dtype"], made["gpu_dtypes"]) == ("float32", {"made": on_gpu})
        assert (effective["file_dtype"], effective["gpu_dtype"]) == ("float32", on_gpu)
        assert ("8 times slower than float16 (estimated)" in run("show", "made").stdout) == (dtype == "auto")

    def test_what_the_cache_has_beside_the_catalogue_is_listed(self, snapshot: Path, tmp_path: Path) -> None:
        (tmp_path / "batchmill.toml").write_text("")

        listed = {item["model"]: item for item in json.loads(run("ls", "--json").stdout)["data"]}

        assert (listed[REPOSITORY]["where"], listed[REPOSITORY]["pipelines"]) == ("cache", [])

    @pytest.mark.usefixtures("snapshot")
    def test_show(self, database: Database) -> None:
        batch_id = insert_batch(database, 1, pipeline="made", model=REPOSITORY, revision=COMMIT)

        shown = run("show", "made").stdout

        assert all(word in shown for word in (REPOSITORY, COMMIT, batch_id, "BertForSequenceClassification"))
        assert json.loads(run("show", "made", "--json").stdout)["batches"] == [batch_id]

    def test_show_of_what_is_not_here_says_how_to_fetch_it(self) -> None:
        assert "batchmill models pull text-generation" in run("show", "text-generation").stdout

    def test_show_has_the_limits_of_a_model_that_is_not_here(self) -> None:
        shown = run("show", "text-generation").stdout
        document = json.loads(run("show", "text-generation", "--json").stdout)

        assert "output length  up to 256 new tokens\n" in shown
        assert '"max_return_sequences": 4' in shown
        assert document["effective"]["parameters"]["max_time"] == 30.0
        assert document["effective"]["output_length"] == "up to 256 new tokens"

    @pytest.mark.parametrize(
        ("fields", "lines"),
        [
            ({}, ["max length  512 tokens, the model's own", "truncation  truncate: longer inputs are cut"]),
            ({"max_length": 64}, ["max length  64 tokens; the model takes 512"]),
            ({"max_length": 600}, ["more is refused at submit"]),
            ({"truncation": "error"}, ["error: longer inputs fail"]),
            ({"truncation": "stride"}, ["stride: longer inputs are read in overlapping windows", "aggregation  mean"]),
            ({"truncation": "stride", "window_aggregation": "max"}, ["window aggregation  max"]),
            ({"dtype": "float16", "device": "cuda:1"}, ["dtype       float16", "device      cuda:1"]),
            ({"parameters": {"top_k": 3}}, ['parameters  {"top_k": 3}']),
            ({"model": "./nothere"}, ["folder      there is no folder"]),
        ],
    )
    def test_show_has_the_effective_settings(
        self, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], lines: list[str]
    ) -> None:
        entry = {"task": "sentiment-analysis", "model": "bundled:sentiment-analysis", **fields}
        monkeypatch.setenv("BATCHMILL_PIPELINES", json.dumps({"mine": entry}))

        shown = run("show", "-p", "mine").stdout

        assert [line for line in lines if line not in shown] == [], shown

    def test_show_has_the_length_of_generated_texts(self) -> None:
        effective = json.loads(run("show", "sample-text-generation", "--json").stdout)["effective"]

        assert effective["output_length"] == "up to 256 new tokens"
        assert effective["parameters"] == {
            "do_sample": True,
            "temperature": 0.7,
            "max_new_tokens": 256,
            "max_time": 30.0,
        }
        assert "output length  up to 80 tokens" in run("show", "sample-summarization").stdout

    @pytest.mark.usefixtures("snapshot")
    def test_pull_of_what_is_here_says_so(self) -> None:
        assert f"{REPOSITORY}@{COMMIT} is here" in run("pull", "made").stderr

    def test_pull_of_what_is_nowhere_is_a_sentence(self, snapshot: Path) -> None:
        result = run("pull", "text-generation")
        assert result.exit_code == 5
        assert "the Hub does not answer" in result.stderr

    def test_an_unknown_pipeline_is_told_which_there_are(self) -> None:
        assert run("show", "nope").exit_code == 2


class TestGuards:
    @pytest.fixture(autouse=True)
    def guarded(self, snapshot: Path, tmp_path: Path) -> None:
        """A pipeline `safe` beside `made`, whose model is its guard's."""
        with (tmp_path / "batchmill.toml").open("a") as file:
            file.write(
                '[pipelines.safe]\ntask = "sentiment-analysis"\nmodel = "bundled:sentiment-analysis"\n'
                '[pipelines.safe.guards.secret]\non = "output"\naction = "redact"\npattern = "project-canary"\n'
                '[pipelines.safe.guards.tone]\non = "input"\naction = "fail"\npipeline = "made"\nlabel = "LABEL_1"\n'
            )

    def test_pull_fetches_their_models_too(self, snapshot: Path) -> None:
        assert f"made, its guard's pipeline: {REPOSITORY}@{COMMIT} is here" in run("pull", "safe").stderr
        [guard] = json.loads(run("pull", "safe", "--json").stdout)["guards"]
        assert (guard["pipeline"], guard["model"], guard["revision"]) == ("made", REPOSITORY, COMMIT)

    def test_pull_fails_if_one_is_nowhere(self, snapshot: Path) -> None:
        shutil.rmtree(snapshot)

        result = run("pull", "safe")

        assert result.exit_code == 5
        assert REPOSITORY in result.stderr

    @pytest.mark.usefixtures("database")
    def test_ls_and_show_say_whose_guards_they_are(self) -> None:
        listed = {item["model"]: item for item in json.loads(run("ls", "--json").stdout)["data"]}
        assert listed[REPOSITORY]["guards_of"] == ["safe"]
        assert listed["bundled:sentiment-analysis"]["guards_of"] == []

        shown, document = run("show", "safe").stdout, json.loads(run("show", "safe", "--json").stdout)

        assert "guards      secret (output): redact by a pattern\n" in shown
        assert "\n            tone (input): fail by LABEL_1 of made (" in shown
        assert document["guards"]["tone"]["revision"] == COMMIT
        assert document["pipeline"]["guards"]["secret"]["pattern"].startswith("sha256:")
        assert "project-canary" not in shown + json.dumps(document)

    @pytest.mark.usefixtures("database")
    def test_show_says_that_one_is_not_here(self, snapshot: Path) -> None:
        shutil.rmtree(snapshot)

        assert "which is not here; fetch it: batchmill models pull safe" in run("show", "safe").stdout


class TestConversion:
    def test_gives_the_same_weights_and_the_pipeline_loads(self, snapshot: Path) -> None:
        before = load_file(snapshot / "model.safetensors")
        tied = {**before, "tied": before["bert.embeddings.word_embeddings.weight"]}
        pickled(snapshot, tied)
        assert "batchmill models pull made --convert" in run("pull", "made").stderr

        result = run("pull", "made", "--convert")

        assert result.exit_code == 0, result.stderr
        after = load_file(snapshot / "model.safetensors")
        assert after.keys() == tied.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in tied.items())
        assert isinstance(runtime.load(entry(), "cpu"), Runtime)
        assert snapshots.fetch_model(entry()).revision == COMMIT

    def test_code_in_the_file_is_refused_and_not_run(self, snapshot: Path, tmp_path: Path) -> None:
        (snapshot / "model.safetensors").unlink()
        trace = tmp_path / "was-here"
        (snapshot / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Hostile(trace)}))

        result = run("pull", "made", "--convert")

        assert result.exit_code == 1
        assert "can't be converted" in result.stderr
        assert not trace.exists()
        assert not list(snapshot.glob("*.safetensors"))

    def test_where_there_is_nothing_to_convert_says_so(self, snapshot: Path) -> None:
        (snapshot / "model.safetensors").unlink()

        assert "has no pytorch_model.bin to convert" in run("pull", "made", "--convert").stderr

    def test_what_was_converted_is_not_converted_again(self, snapshot: Path) -> None:
        written = (snapshot / "model.safetensors").stat()

        safetensors_conversion.convert(REPOSITORY, snapshot)

        assert (snapshot / "model.safetensors").stat() == written

    def test_the_layers_of_an_embedding_model_are_converted_too(self, snapshot: Path, tmp_path: Path) -> None:
        config = tmp_path / "batchmill.toml"
        config.write_text(config.read_text().replace("sentiment-analysis", "embeddings"))
        layer = ("Dense", {"in_features": 32, "out_features": 8})
        sentence_models.add_modules(snapshot, steps=[layer])
        weights = snapshot / "2_Dense" / "model.safetensors"
        before = load_file(weights)
        torch.save(before, weights.with_name("pytorch_model.bin"))
        weights.unlink()
        refused = run("pull", "made").stderr
        assert f"{REPOSITORY} has no safetensors weights in 2_Dense" in refused
        assert "batchmill models pull made --convert" in refused

        result = run("pull", "made", "--convert")

        assert result.exit_code == 0, result.stderr
        assert all(torch.equal(before[name], tensor) for name, tensor in load_file(weights).items())


@pytest.mark.usefixtures("database")
def test_show_describes_the_vectors_of_an_embedding_model(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    config = tmp_path / "batchmill.toml"
    config.write_text(config.read_text().replace("sentiment-analysis", "embeddings"))
    sentence_models.add_modules(snapshot, steps=[("Normalize", {})])
    sentence_models.write_json(
        snapshot / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "passage": "passage: "}}
    )
    sentence_models.write_json(snapshot / "sentence_bert_config.json", {"max_seq_length": 24})

    shown, effective = run("show", "made").stdout, json.loads(run("show", "made", "--json").stdout)["effective"]

    assert "32 numbers, pooled by mean, normalized" in shown
    assert "query, passage" in shown
    assert "24 tokens, the model's own" in shown
    assert effective["vectors"] == {
        "pooling": ["mean"],
        "normalized": True,
        "dimensions": 32,
        "prompts": ["query", "passage"],
        "refusal": None,
    }


@pytest.mark.usefixtures("database")
def test_show_describes_the_scores_of_a_ranking_model(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    config = tmp_path / "batchmill.toml"
    config.write_text(config.read_text().replace("sentiment-analysis", "reranking"))
    files: dict[str, Any] = {"prompts": {"query": "Find: "}, "default_prompt_name": "query"}
    cross_encoders.add_modules(
        snapshot, transformer={"max_seq_length": 24}, activation_fn="torch.nn.modules.activation.Tanh", **files
    )

    shown, effective = run("show", "made").stdout, json.loads(run("show", "made", "--json").stdout)["effective"]

    assert "by Tanh" in shown
    assert '"Find: "' in shown
    assert "24 tokens, the model's own" in shown
    assert effective["scores"] == {"function": "Tanh", "query_prompt": "Find: ", "refusal": None}


class TestAdapters:
    @pytest.fixture
    def adapter(self, tmp_path: Path) -> Path:
        """A LoRA adapter over a bundled model, which the pipeline `adapted` names."""
        base = SAMPLES_FOLDER / "sentiment-analysis"
        folder = adapter_for(base, tmp_path / "adapter", target_modules=["q_lin"])
        with (tmp_path / "batchmill.toml").open("a") as file:
            file.write(
                '[pipelines.adapted]\ntask = "sentiment-analysis"\nmodel = "bundled:sentiment-analysis"\n'
                'adapter = "./adapter"\n'
            )
        return folder

    def test_pull_checks_it_and_says_where_it_is(self, snapshot: Path, adapter: Path) -> None:
        assert f"its adapter {adapter}@{content_hash(adapter)} is here, too" in run("pull", "adapted").stderr
        assert json.loads(run("pull", "adapted", "--json").stdout)["adapter_revision"] == content_hash(adapter)

    def test_pull_refuses_one_that_no_worker_would_load(self, snapshot: Path, adapter: Path) -> None:
        edit_config(adapter, peft_type="IA3")

        result = run("pull", "adapted")

        assert result.exit_code != 0
        assert "an adapter of the kind 'IA3'" in result.stderr

    def test_show_names_it_or_says_why_it_is_refused(self, snapshot: Path, adapter: Path) -> None:
        shown = json.loads(run("show", "adapted", "--json").stdout)["adapter"]
        assert (shown["revision"], shown["refusal"]) == (content_hash(adapter), None)
        assert "adapter@sha256:" in run("show", "adapted").stdout

        (adapter / "adapter_model.safetensors").unlink()

        assert "it is refused: " in run("show", "adapted").stdout

    def test_show_warns_of_one_for_another_model(self, snapshot: Path, adapter: Path) -> None:
        edit_config(adapter, base_model_name_or_path="org/another")

        assert "it says that it was trained on org/another, not on this model" in run("show", "adapted").stdout

    def test_ls_lists_it_with_its_batches(self, snapshot: Path, adapter: Path, database: Database) -> None:
        insert_batch(database, 1, pipeline="adapted", model="m", revision=f"sha256:1+{content_hash(adapter)}")

        listed = [item for item in json.loads(run("ls", "--json").stdout)["data"] if item["kind"] == "adapter"]

        assert [(item["model"], item["where"], item["batches"]) for item in listed] == [(str(adapter), "folder", 1)]
        assert str(adapter) in run("ls").stdout
