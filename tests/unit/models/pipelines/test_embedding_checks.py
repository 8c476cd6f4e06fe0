"""What a submitter is told of an embedding model's parameters, from its files and without loading it."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidParameters, SettingsError
from models.pipelines import embedding_checks, model_files
from models.pipelines.model_files import ModelFiles
from models.pipelines.pipeline import Pipeline
from producer.dry_run.input_lengths import LengthHistogram
from tests.factories.minilm import minilm_folder
from tests.factories.sentence_models import add_modules, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {"hidden_size": 32, "max_position_embeddings": 512, "model_type": "bert"})
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 256})
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "passage": "p: "}})
    return tmp_path


def pipeline_for(folder: Path, **parameters: Any) -> Pipeline:
    return Pipeline(name="mine", task="embeddings", model=str(folder), parameters=parameters)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"dimensions": 32}, {"prompt_name": "query"}, {"pooling": "cls"}, {"pooling": "none"}, {"normalize": True}],
)
def test_what_the_model_can_do_is_taken(folder: Path, parameters: dict[str, Any]) -> None:
    add_modules(folder, steps=[("Normalize", {})])

    embedding_checks.check_embedding(pipeline_for(folder), parameters)
    embedding_checks.check_entry(pipeline_for(folder, **parameters))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"prompt_name": "nope"}, "the model has no prompt of this prompt_name; it has query, passage"),
        ({"dimensions": 33}, "dimensions is 33, but the model's vectors have 32 numbers; set at most 32"),
    ],
)
def test_what_it_can_not_do_is_refused(folder: Path, parameters: dict[str, Any], problem: str) -> None:
    add_modules(folder)

    with pytest.raises(InvalidParameters, match=problem):
        embedding_checks.check_embedding(pipeline_for(folder), parameters)
    with pytest.raises(SettingsError, match=r"\[pipelines.mine\] parameters: .*" + problem):
        embedding_checks.check_entry(pipeline_for(folder, **parameters))


@pytest.mark.parametrize("parameters", [{"prompt_name": "nope"}, {"dimensions": 33}])
def test_the_prompts_are_shown_beside_a_refusal(folder: Path, parameters: dict[str, Any]) -> None:
    add_modules(folder)

    vectors = embedding_checks.describe_vectors(pipeline_for(folder, **parameters))

    assert vectors is not None
    with pytest.raises(InvalidParameters) as error:
        embedding_checks.check_embedding(pipeline_for(folder), parameters)
    assert vectors.pop("refusal") == str(error.value)
    own = embedding_checks.describe_vectors(pipeline_for(folder))
    assert own == {**vectors, "refusal": None}
    assert own["prompts"] == ["query", "passage"]


def test_dimensions_are_those_after_the_last_layer(folder: Path) -> None:
    add_modules(folder, steps=[("Dense", {"in_features": 32, "out_features": 8})])

    with pytest.raises(InvalidParameters, match="vectors have 8 numbers"):
        embedding_checks.check_embedding(pipeline_for(folder), {"dimensions": 9})


def test_a_pooling_must_fit_the_next_layer(folder: Path) -> None:
    two_modes = {"pooling_mode": ["mean", "cls"]}
    add_modules(folder, two_modes, [("Dense", {"in_features": 64, "out_features": 8})])

    embedding_checks.check_embedding(pipeline_for(folder), {"dimensions": 8})
    with pytest.raises(InvalidParameters, match="gives vectors of 32 numbers, and the model's next layer takes 64"):
        embedding_checks.check_embedding(pipeline_for(folder), {"pooling": "mean"})


def test_a_model_without_such_files_has_no_prompts(folder: Path) -> None:
    with pytest.raises(InvalidParameters, match="it has none: leave prompt_name out"):
        embedding_checks.check_embedding(pipeline_for(folder), {"prompt_name": "query"})


def test_damaged_files_are_left_to_the_worker(folder: Path) -> None:
    add_modules(folder)
    (folder / "modules.json").write_text("{")

    embedding_checks.check_embedding(pipeline_for(folder), {"prompt_name": "query"})


@pytest.mark.parametrize(
    ("architectures", "refusal"),
    [
        (["BertModel"], "a BertModel gives no scores; name a cross-encoder, a …ForSequenceClassification"),
        (["BertForSequenceClassification"], None),
        (None, None),
    ],
)
def test_a_model_without_a_classifier_can_not_rank(
    folder: Path, architectures: list[str] | None, refusal: str | None
) -> None:
    write_json(folder / "config.json", {"model_type": "bert", "architectures": architectures})

    scores = embedding_checks.describe_scores(Pipeline(name="mine", task="reranking", model=str(folder)))

    assert scores == {"function": "Sigmoid", "query_prompt": None, "refusal": refusal}


@pytest.mark.parametrize(("own", "limit"), [(None, 256), (128, 128), (384, 384), (1024, 512)])
def test_the_limit_is_that_of_sentence_transformers(folder: Path, own: int | None, limit: int) -> None:
    add_modules(folder)
    if own:
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": own})

    assert model_files.effective_max_length(pipeline_for(folder)) == limit


def test_a_pipeline_may_raise_that_limit_as_far_as_the_model_reaches(folder: Path) -> None:
    add_modules(folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 128})
    raised, beyond = (pipeline_for(folder).model_copy(update={"max_length": length}) for length in (256, 257))

    assert model_files.effective_max_length(raised) == 256
    model_files.check_max_length(raised)
    with pytest.raises(SettingsError, match="the model takes 256 tokens"):
        model_files.check_max_length(beyond)


def test_a_transformer_may_have_a_folder_apart(folder: Path) -> None:
    (folder / "0_Transformer").mkdir()
    add_modules(folder)
    (folder / "config.json").rename(folder / "0_Transformer" / "config.json")
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace('"path": ""', '"path": "0_Transformer"'))

    files = ModelFiles.find(pipeline_for(folder))

    assert files is not None
    assert files.folder == folder / "0_Transformer"
    assert files.max_length == 512


def test_a_dry_run_counts_the_tokens_of_the_prompt(tmp_path: Path) -> None:
    for path in minilm_folder().iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "config_sentence_transformers.json").unlink()
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})

    def count(**parameters: Any) -> list[int]:
        return LengthHistogram.for_pipeline(pipeline_for(tmp_path), parameters).measure([{"text": "hello " * 300}])

    # The file of the tokenizer cuts to 128 tokens, which is not the model's limit.
    assert (count(), count(prompt_name="query")) == ([302], [304])
