from typing import Any

import pytest

from models.pipelines.builtin import BUILT_IN
from models.pipelines.folder_hash import content_hash
from producer.submission.cache_key import SHOWS, obstacle, recipe, revision

NAMED = {pipeline.name: pipeline for pipeline in BUILT_IN}
PINNED, FOLDER = NAMED["sentiment-analysis"], NAMED["sample-sentiment-analysis"]

# What of a catalogue entry changes no output: names and words, the model's pin (told apart by the settled one), where
# it runs, how many inputs at a time, how often it is tried, and the parameters, which the batch has.
CHANGES_NOTHING = {
    "name", "revision", "device", "tokens_per_batch", "max_attempts", "pass_seconds", "parameters", "licence",
    "description",
}  # fmt: skip


def test_every_field_of_an_entry_is_known_to_show_in_outputs_or_not_to() -> None:
    assert set(type(PINNED).model_fields) == set(SHOWS) | CHANGES_NOTHING


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "b"}, {"tokenizer": "b", "tokenizer_revision": "c"}, {"dtype": "float16"}, {"quantization": "int8"},
        {"attention": "eager"}, {"truncation": "error"}, {"stride": 3}, {"deterministic": True}, {"max_length": 8},
    ],
)  # fmt: skip
def test_what_shows_in_an_output_makes_another_one(changed: dict[str, Any]) -> None:
    assert recipe(PINNED.model_copy(update=changed), {}) not in (None, recipe(PINNED, {}))


def test_parameters_make_another_one_in_whatever_order() -> None:
    assert recipe(PINNED, {"top_k": 1}) != recipe(PINNED, {}) != recipe(PINNED, {"top_k": None})
    assert recipe(PINNED, {"a": {"x": 1, "y": [2]}, "b": 3}) == recipe(PINNED, {"b": 3, "a": {"y": [2], "x": 1}})
    assert recipe(PINNED, {"b": [1, 2]}) != recipe(PINNED, {"b": [2, 1]})


@pytest.mark.parametrize(
    ("name", "parameters", "there"),
    [
        ("text-generation", {}, False), ("text-generation", {"seed": 1}, True),
        ("text-generation", {"do_sample": False}, True), ("summarization", {}, True),
        ("summarization", {"do_sample": True}, False), ("fill-mask", {}, True),
    ],
)  # fmt: skip
def test_there_is_none_where_tokens_are_drawn_by_chance(name: str, parameters: dict[str, Any], there: bool) -> None:
    assert (recipe(NAMED[name], parameters) is not None) is there
    assert (obstacle(NAMED[name], parameters) is None) is there


def test_the_revision_is_the_pin_or_a_folder_s_content() -> None:
    assert FOLDER.folder is not None
    assert revision(PINNED) == PINNED.revision
    assert revision(FOLDER) == content_hash(FOLDER.folder)
    assert revision(FOLDER.model_copy(update={"revision": "pinned"})) == "pinned"
    assert revision(PINNED.model_copy(update={"revision": None})) is None
    assert revision(FOLDER.model_copy(update={"model": "/nowhere"})) is None
