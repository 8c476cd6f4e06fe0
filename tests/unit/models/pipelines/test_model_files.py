"""What a submitter knows of a model's files, without loading them."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidParameters, SettingsError
from models.pipelines import model_files
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.model_files import ModelFiles
from models.pipelines.pipeline import Pipeline

BY_NAME = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
SAMPLE = BY_NAME["sample-sentiment-analysis"]


def write_model(folder: Path, config: Any, tokenizer_config: Any = None, generation_config: Any = None) -> Pipeline:
    folder.mkdir(parents=True)
    for name, content in (
        ("config.json", config),
        ("tokenizer_config.json", tokenizer_config),
        ("generation_config.json", generation_config),
    ):
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return Pipeline(name="mine", task="text-generation", model=str(folder))


@pytest.mark.parametrize(
    ("config", "tokenizer_config", "limit"),
    [
        ({"max_position_embeddings": 512}, {"model_max_length": 128}, 128),
        ({"max_position_embeddings": 512}, {"model_max_length": 10**30}, 512),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": 514, "model_type": "lilt", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": 514, "model_type": "markuplm", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": 1026, "model_type": "esm", "pad_token_id": 1}, {}, 1024),
        ({"max_position_embeddings": 1026, "model_type": "esm", "position_embedding_type": "rotary"}, {}, 1026),
        ({"n_positions": 1024, "model_type": "gpt2"}, {}, 1024),
        ({"n_positions": 2048, "model_type": "gpt_bigcode"}, {}, 2048),
        ({"n_positions": 512, "model_type": "t5"}, {}, None),
        ({"max_encoder_position_embeddings": 16_384, "max_position_embeddings": 1024}, {}, 16_384),
        ({}, {}, None),
        ("[]", "nonsense", None),
        ("[" * 100_000, {"model_max_length": "many"}, None),
    ],
)
def test_the_limit_is_the_smaller_of_model_and_tokenizer(
    tmp_path: Path, config: Any, tokenizer_config: Any, limit: int | None
) -> None:
    pipeline = write_model(tmp_path / "model", config, tokenizer_config)

    files = ModelFiles.find(pipeline)

    assert files is not None
    assert files.max_length == limit


@pytest.mark.parametrize(("max_length", "is_refused"), [(512, False), (513, True), (None, False), (1, False)])
def test_max_length_past_the_model_is_refused(max_length: int | None, *, is_refused: bool) -> None:
    pipeline = SAMPLE.model_copy(update={"max_length": max_length})

    if is_refused:
        with pytest.raises(SettingsError, match="max_length is 513, but the model takes 512 tokens"):
            model_files.check_max_length(pipeline)
    else:
        model_files.check_max_length(pipeline)
        assert model_files.effective_max_length(pipeline) == (max_length or 512)


@pytest.mark.parametrize("revision", ["a" * 40, None, "main"])
def test_the_hubs_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None) -> None:
    repo = tmp_path / "hub" / "models--me--model"
    write_model(repo / "snapshots" / ("a" * 40), {"max_position_embeddings": 77})
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)

    pipeline = Pipeline(name="mine", task="ner", model="me/model", revision=revision)

    assert model_files.effective_max_length(pipeline) == 77
    assert ModelFiles.find(pipeline.model_copy(update={"revision": "b" * 40})) is None
    assert ModelFiles.find(pipeline.model_copy(update={"model": "me/other"})) is None


@pytest.mark.parametrize("field", ["model", "tokenizer"])
def test_a_folder_must_exist(tmp_path: Path, field: str) -> None:
    pipeline = SAMPLE.model_copy(update={field: str(tmp_path / "nothere")})

    with pytest.raises(SettingsError, match=rf"\[pipelines.{SAMPLE.name}\] {field}: there is no folder .*nothere"):
        model_files.check_folder(pipeline)


@pytest.mark.parametrize(
    ("config", "generation_config", "text"),
    [
        ({}, {}, "up to 256 new tokens"),
        ({"max_length": 20}, None, "up to 256 new tokens"),
        ({}, {"max_new_tokens": 40}, "up to 40 new tokens"),
        ({}, {"max_length": 80}, "up to 80 tokens with the prompt"),
        ({"task_specific_params": {"text-generation": {"max_length": 50}}}, {}, "up to 50 tokens with the prompt"),
    ],
)
def test_the_length_of_generated_texts_is_known(tmp_path: Path, config: Any, generation_config: Any, text: str) -> None:
    files = ModelFiles.find(write_model(tmp_path / "model", config, None, generation_config))

    assert files is not None
    assert files.output_length("text-generation") == text


@pytest.mark.parametrize(
    ("generation_config", "parameters", "is_refused"),
    [
        ({"do_sample": False}, {"seed": 3}, True),
        ({"do_sample": False}, {"temperature": 0.5}, True),
        ({"do_sample": False}, {"seed": 3, "do_sample": True}, False),
        ({"do_sample": False}, {"seed": None, "max_new_tokens": 5}, False),
        ({"do_sample": True}, {"seed": 3}, False),
        ({}, {"seed": 3}, False),
        ("nonsense", {"seed": 3}, False),
    ],
)
def test_sampling_parameters_need_a_model_that_samples(
    tmp_path: Path, generation_config: Any, parameters: dict[str, Any], *, is_refused: bool
) -> None:
    pipeline = write_model(tmp_path / "model", {}, None, generation_config)

    if is_refused:
        with pytest.raises(InvalidParameters, match="has no effect, because the model's own generation config"):
            model_files.check_decoding(pipeline, parameters)
    else:
        model_files.check_decoding(pipeline, parameters)


@pytest.mark.parametrize(
    ("generation_config", "parameters", "is_refused"),
    [
        ({}, {"length_penalty": 2.0}, True),
        ({"num_beams": 1}, {"early_stopping": False}, True),
        ({}, {"length_penalty": 2.0, "num_beams": 3}, False),
        ({"num_beams": 4}, {"length_penalty": 2.0, "early_stopping": True}, False),
        ({}, {"length_penalty": None}, False),
    ],
)
def test_beam_parameters_need_a_model_with_beams(
    tmp_path: Path, generation_config: Any, parameters: dict[str, Any], *, is_refused: bool
) -> None:
    pipeline = write_model(tmp_path / "model", {}, None, generation_config)
    pipeline.spec.check_parameters(parameters)

    if is_refused:
        with pytest.raises(InvalidParameters, match="has no effect, because the model's own generation config has no"):
            model_files.check_decoding(pipeline, parameters)
    else:
        model_files.check_decoding(pipeline, parameters)
        model_files.check_decoding(pipeline.model_copy(update={"model": "nobody/not-here"}), parameters)


@pytest.mark.parametrize(("parameters", "is_refused"), [({}, False), ({"do_sample": True}, True)])
def test_encoder_decoders_have_beams_unless_they_sample(
    tmp_path: Path, parameters: dict[str, Any], *, is_refused: bool
) -> None:
    pipeline = write_model(tmp_path / "model", {}, None, {"num_beams": 1}).model_copy(update={"task": "summarization"})
    parameters = {**parameters, "length_penalty": 2.0}

    if is_refused:
        with pytest.raises(InvalidParameters, match="has no effect without beams"):
            pipeline.spec.check_parameters(parameters)
    else:
        pipeline.spec.check_parameters(parameters)
        model_files.check_decoding(pipeline, parameters)


def test_the_hash_follows_what_workers_take_from_the_entry() -> None:
    base = SAMPLE.settings_hash

    same = {"name": "other", "parameters": {"top_k": 2}, "description": "x", "licence": "MIT", "max_attempts": 5}
    assert SAMPLE.model_copy(update=same).settings_hash == base
    changes: list[dict[str, Any]] = [
        {"max_length": 5},
        {"truncation": "error"},
        {"model": "/a/x"},
        {"dtype": "float32"},
    ]
    assert len({SAMPLE.model_copy(update=change).settings_hash for change in changes} | {base}) == 5
    folders = {SAMPLE.model_copy(update={"model": f"{place}/x"}).settings_hash for place in ("/a", "/b/c")}
    assert len(folders) == 1  # machines keep the same folder at different places
