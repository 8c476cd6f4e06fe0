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

NAMED = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
PINNED, FOLDER = NAMED["sentiment-analysis"], NAMED["sample-sentiment-analysis"]

# What of a catalogue entry changes no output: names and words, the model's pin (told apart by the settled one), where
# it runs, how many inputs at a time, how often it is tried, and the parameters, which the batch has.
CHANGES_NOTHING = {
    "name",
    "revision",
    "device",
    "tokens_per_batch",
    "max_attempts",
    "pass_seconds",
    "parameters",
    "licence",
    "description",
}


def test_every_field_of_an_entry_is_known_to_show_in_outputs_or_not_to() -> None:
    assert set(type(PINNED).model_fields) == set(OUTPUT_RELEVANT_FIELDS) | CHANGES_NOTHING


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
def test_what_shows_in_an_output_makes_another_one(changed: dict[str, Any]) -> None:
    assert output_cache_key(PINNED.model_copy(update=changed), {}) not in (None, output_cache_key(PINNED, {}))


def test_parameters_make_another_one_in_whatever_order() -> None:
    assert (
        output_cache_key(PINNED, {"top_k": 1})
        != output_cache_key(PINNED, {})
        != output_cache_key(PINNED, {"top_k": None})
    )
    assert output_cache_key(PINNED, {"a": {"x": 1, "y": [2]}, "b": 3}) == output_cache_key(
        PINNED, {"b": 3, "a": {"y": [2], "x": 1}}
    )
    assert output_cache_key(PINNED, {"b": [1, 2]}) != output_cache_key(PINNED, {"b": [2, 1]})


@pytest.mark.parametrize(
    ("name", "parameters", "there"),
    [
        ("text-generation", {}, False),
        ("text-generation", {"seed": 1}, True),
        ("text-generation", {"do_sample": False}, True),
        ("summarization", {}, True),
        ("summarization", {"do_sample": True}, False),
        ("fill-mask", {}, True),
    ],
)
def test_there_is_none_where_tokens_are_drawn_by_chance(name: str, parameters: dict[str, Any], there: bool) -> None:
    assert (output_cache_key(NAMED[name], parameters) is not None) is there
    assert (not_cacheable_because(NAMED[name], parameters) is None) is there


def test_the_revision_is_the_pin_or_a_folder_s_content() -> None:
    assert FOLDER.folder is not None
    assert resolve_revision(PINNED) == PINNED.revision
    assert resolve_revision(FOLDER) == content_hash(FOLDER.folder)
    assert resolve_revision(FOLDER.model_copy(update={"revision": "pinned"})) == "pinned"
    assert resolve_revision(PINNED.model_copy(update={"revision": None})) is None
    assert resolve_revision(FOLDER.model_copy(update={"model": "/nowhere"})) is None
