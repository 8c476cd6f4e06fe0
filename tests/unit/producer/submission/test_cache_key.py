from typing import Any

import pytest

from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.folder_hash import content_hash
from producer.submission.cache_key import (
    OUTPUT_RELEVANT_FIELDS,
    not_cacheable_because,
    output_cache_key,
    resolve_revision,
)

BY_NAME = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
PINNED, FOLDER = BY_NAME["sentiment-analysis"], BY_NAME["sample-sentiment-analysis"]

# The fields of a catalogue entry that change no output. The revision is compared on its own, and the parameters and
# templates are the batch's.
IRRELEVANT_FIELDS = {
    "name",
    "revision",
    "device",
    "tokens_per_batch",
    "max_attempts",
    "pass_seconds",
    "parameters",
    "prompt",
    "system",
    "licence",
    "description",
}


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
        {"deterministic": True},
        {"max_length": 8},
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
