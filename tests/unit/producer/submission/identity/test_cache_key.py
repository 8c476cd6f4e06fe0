import re
from pathlib import Path
from typing import Any

import pytest

from models import operator_code
from models.guards.definition import Guard
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.folder_hash import content_hash
from models.pipelines.output_settings import OUTPUT_RELEVANT_FIELDS
from models.pipelines.pipeline import Pipeline
from producer.submission.identity.cache_key import (
    embedding_key,
    not_cacheable_because,
    output_cache_key,
    resolve_revision,
)

BY_NAME = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
PINNED, FOLDER = BY_NAME["sentiment-analysis"], BY_NAME["sample-sentiment-analysis"]

# The fields of a catalogue entry that change no output, or that are part of the key by themselves. The revision is
# compared on its own, and the parameters and templates are the batch's.
IRRELEVANT_FIELDS = {
    "name",
    "revision",
    "device",
    "device_map",
    "max_memory",
    "offload_folder",
    "examples",  # of its trial
    "tokens_per_batch",
    "max_attempts",
    "pass_seconds",
    "adapter_revision",  # a part of the revision
    "parameters",
    "prompt",
    "system",
    "guards",
    "limits",
    "licence",
    "description",
}

RULE = {"on": "input", "action": "fail", "words": ["forbidden"]}
MODEL_GUARD = {"on": "input", "action": "fail", "pipeline": "checker", "label": "BAD"}
CHECKER = PINNED.model_copy(update={"name": "checker"})


def guarded(*guards: dict[str, Any], checker: Pipeline | None = CHECKER) -> Pipeline:
    """A pinned pipeline with these guards, and the catalogue's entry of their model."""
    named = {f"guard-{number}": Guard(**guard) for number, guard in enumerate(guards)}
    catalogue = {} if checker is None else {"checker": checker}
    return PINNED.model_copy(update={"guards": named}).with_guard_pipelines(catalogue)


def test_every_field_of_an_entry_is_listed_as_relevant_or_irrelevant() -> None:
    assert set(type(PINNED).model_fields) == set(OUTPUT_RELEVANT_FIELDS) | IRRELEVANT_FIELDS


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "b"},
        {"tokenizer": "b", "tokenizer_revision": "c"},
        {"dtype": "float16"},
        {"quantization": "int8"},
        {"attention": "eager"},
        {"truncation": "error"},
        {"stride": 3},
        {"window_aggregation": "max"},
        {"deterministic": True},
        {"max_length": 8},
        {"adapter": "/data/adapter"},
        {"logits_processors": ("tests.factories.logits_controls:no_digits",)},
    ],
)
def test_a_relevant_field_changes_the_key(changed: dict[str, Any]) -> None:
    key = output_cache_key(PINNED.model_copy(update=changed), {})

    assert key not in (None, output_cache_key(PINNED, {}))


@pytest.mark.parametrize(
    ("parameters", "others"), [({"top_k": 1}, {}), ({"top_k": None}, {}), ({"b": [1, 2]}, {"b": [2, 1]})]
)
def test_parameters_change_the_key(parameters: dict[str, Any], others: dict[str, Any]) -> None:
    assert output_cache_key(PINNED, parameters) != output_cache_key(PINNED, others)


def test_vectors_have_a_key_where_outputs_can_not_be_reused() -> None:
    embedder = BY_NAME["feature-extraction"]
    unpinned = embedder.model_copy(update={"tokenizer": "org/tokenizer"})

    assert output_cache_key(unpinned, {}) is None
    keys = [embedding_key(unpinned, {"pooling": pooling}) for pooling in ("mean", "cls")]
    assert len({None, embedding_key(embedder, {"pooling": "mean"}), *keys}) == 4


def test_guards_do_not_change_the_key_of_vectors() -> None:
    embedder = BY_NAME["feature-extraction"]
    guards = {"a": Guard(on="input", action="redact", words=["x"]), "b": Guard(**MODEL_GUARD)}

    assert embedding_key(embedder.model_copy(update={"guards": guards}), {}) == embedding_key(embedder, {})


def test_outputs_that_are_no_vectors_have_no_key_of_vectors() -> None:
    assert embedding_key(PINNED, {}) is None
    assert embedding_key(BY_NAME["feature-extraction"], {"pooling": "none"}) is None


def test_the_order_of_parameters_does_not_change_the_key() -> None:
    parameters, reordered = {"a": {"x": 1, "y": [2]}, "b": 3}, {"b": 3, "a": {"y": [2], "x": 1}}

    assert output_cache_key(PINNED, parameters) == output_cache_key(PINNED, reordered)


@pytest.mark.parametrize(
    ("name", "parameters", "is_cacheable"),
    [
        ("text-generation", {}, False),
        ("text-generation", {"seed": 1}, True),
        ("text-generation", {"do_sample": False}, True),
        ("summarization", {}, True),
        ("summarization", {"do_sample": True}, False),
        ("fill-mask", {}, True),
    ],
)
def test_outputs_sampled_without_a_seed_have_no_key(name: str, parameters: dict[str, Any], is_cacheable: bool) -> None:
    assert (output_cache_key(BY_NAME[name], parameters) is not None) is is_cacheable
    assert (not_cacheable_because(BY_NAME[name], parameters) is None) is is_cacheable


def test_the_revision_is_the_pinned_one_or_the_folder_s_content_hash() -> None:
    assert FOLDER.folder is not None
    assert resolve_revision(PINNED) == PINNED.revision
    assert resolve_revision(FOLDER) == content_hash(FOLDER.folder)
    assert resolve_revision(FOLDER.model_copy(update={"revision": "pinned"})) == "pinned"
    assert resolve_revision(PINNED.model_copy(update={"revision": None})) is None
    assert resolve_revision(FOLDER.model_copy(update={"model": "/nowhere"})) is None


def test_the_revision_of_an_adapter_is_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    adapted = PINNED.model_copy(update={"adapter": str(tmp_path)})

    assert resolve_revision(adapted) == f"{PINNED.revision}+{content_hash(tmp_path)}"
    assert resolve_revision(adapted.model_copy(update={"adapter": "/nowhere"})) is None
    hub = {"adapter": "org/adapter", "adapter_revision": "b" * 40}
    assert resolve_revision(PINNED.model_copy(update=hub)) == f"{PINNED.revision}+{'b' * 40}"


def test_guards_change_the_key() -> None:
    pipelines = [
        PINNED,
        guarded(RULE),
        guarded({**RULE, "action": "flag"}),
        guarded({**RULE, "words": ["other"]}),
        guarded(RULE, MODEL_GUARD),
        guarded(MODEL_GUARD, RULE),
        guarded(MODEL_GUARD),
        guarded({**MODEL_GUARD, "threshold": 0.9}),
        guarded(MODEL_GUARD, checker=CHECKER.model_copy(update={"revision": "b" * 40})),
        guarded(MODEL_GUARD, checker=CHECKER.model_copy(update={"dtype": "bfloat16"})),
        guarded(MODEL_GUARD, checker=CHECKER.model_copy(update={"parameters": {"function_to_apply": "sigmoid"}})),
        guarded(MODEL_GUARD, checker=FOLDER),
    ]

    keys = [output_cache_key(pipeline, {}) for pipeline in pipelines]

    assert None not in keys
    assert len(set(keys)) == len(pipelines)
    assert output_cache_key(guarded(MODEL_GUARD), {}) == output_cache_key(guarded(MODEL_GUARD), {})


def test_a_pipeline_without_guards_keeps_the_key_of_times_without_them() -> None:
    assert output_cache_key(PINNED, {}) == "0eacc05fe60612c41ae07fb7d50435e4be82eb641546c9b166b48d52f96685fc"


@pytest.mark.parametrize(
    ("checker", "words"),
    [
        (FOLDER.model_copy(update={"model": "/nowhere"}), "revision of pipeline checker is not known here"),
        (CHECKER.model_copy(update={"revision": None}), "revision of pipeline checker is not known here"),
        (CHECKER.model_copy(update={"tokenizer": "somebody/else"}), "tokenizer_revision"),
        (None, "not in the catalogue"),
    ],
)
def test_a_guard_whose_model_may_change_leaves_no_key(checker: Pipeline | None, words: str) -> None:
    pipeline = guarded(MODEL_GUARD, checker=checker)

    assert output_cache_key(pipeline, {}) is None
    assert re.search(f"guard guard-0 may decide otherwise: .*{words}", not_cacheable_because(pipeline, {}) or "")


def test_operator_code_is_part_of_the_key_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    processed = PINNED.model_copy(update={"logits_processors": ("tests.factories.logits_controls:no_digits",)})
    key = output_cache_key(processed, {})

    monkeypatch.setattr(operator_code, "code_version", lambda reference: f"{reference} 2.0")

    assert key not in (None, output_cache_key(processed, {}))


def test_outputs_of_code_that_is_not_installed_here_can_not_be_reused() -> None:
    missing = PINNED.model_copy(update={"logits_processors": ("missing_package.module:no_digits",)})

    assert not_cacheable_because(missing, {}) == (
        "the code of missing_package.module:no_digits is not installed here, so its version is not known"
    )
