"""What transformers 4.57.6's pipelines were seen to settle on, by spying on their `generate`."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from torch import nn
from transformers import GenerationConfig

from worker.adapters.generation.seq2seq_v4_defaults import Seq2SeqDefaults

NEW, OLD = "4.57.6", "4.30.0"


def defaults(
    own: dict[str, Any],
    by_task: Mapping[str, Any] | None = None,
    *,
    task: str = "summarization",
    version: str = NEW,
    table: Any = None,
    from_config: bool = False,
    **config: Any,
) -> Seq2SeqDefaults:
    generation = GenerationConfig(transformers_version=version, **own)
    generation._from_model_config = from_config
    model = SimpleNamespace(
        config=SimpleNamespace(task_specific_params=by_task, **config),
        generation_config=generation,
        get_decoder=lambda: SimpleNamespace(embed_positions=table, base_model=None),
    )
    return Seq2SeqDefaults.from_model(model, SimpleNamespace(pad_token_id=7), task)


@pytest.mark.parametrize("version", [NEW, OLD])
@pytest.mark.parametrize(
    ("own", "by_task", "parameters", "expected"),
    [
        ({}, {}, {}, (257, 0, 4)),
        ({"num_beams": 2}, {}, {}, (257, 0, 4)),
        ({"num_beams": 1}, {}, {}, (257, 0, 4)),
        ({"max_length": 50}, {}, {}, (50, 0, 4)),
        ({"max_length": 50}, {}, {"max_length": 10}, (10, 0, 4)),
        ({}, {}, {"max_length": 10}, (257, 0, 4)),
        ({}, {}, {"max_new_tokens": 1}, (2, 0, 4)),
        ({"max_length": 50}, {}, {"max_new_tokens": 99}, (100, 0, 4)),
        ({}, {}, {"min_length": 5, "max_new_tokens": 2}, (3, 3, 4)),
        ({"max_new_tokens": 30}, {}, {}, (257, 0, 4)),
        ({"max_length": 50}, {"num_beams": 3, "max_length": 100, "min_length": 3}, {}, (100, 3, 3)),
        ({}, {"num_beams": 3, "max_length": 100, "min_length": 3}, {}, (257, 3, 3)),
        ({"max_length": 50}, {"num_beams": 3}, {"num_beams": 1, "min_new_tokens": 4}, (50, 5, 1)),
    ],
)
def test_lengths_and_beams(
    own: dict[str, Any],
    by_task: dict[str, Any],
    parameters: dict[str, Any],
    expected: tuple[int, int, int],
    version: str,
) -> None:
    asked = defaults(own, {"summarization": by_task}, version=version).with_parameters(parameters)

    assert (asked["max_length"], asked["min_length"], asked["num_beams"]) == expected
    assert asked["max_new_tokens"] is asked["min_new_tokens"] is None


def test_newer_generation_configs_count_twice() -> None:
    own = {"max_new_tokens": 30, "max_length": 60, "num_beams": 2}
    by_task = {"summarization": {"num_beams": 1}}

    new, old = (defaults(own, by_task, version=version).with_parameters({}) for version in (NEW, OLD))

    assert (new["max_length"], new["num_beams"]) == (31, 2)
    assert (old["max_length"], old["num_beams"]) == (60, 1)


def test_everything_else_is_the_models() -> None:
    own = {
        "forced_bos_token_id": 3,
        "bad_words_ids": [[5]],
        "no_repeat_ngram_size": 3,
        "length_penalty": 2.0,
        "early_stopping": True,
        "repetition_penalty": 1.2,
        "decoder_start_token_id": 2,
        "eos_token_id": [2, 4],
    }

    asked = defaults(own).with_parameters({"repetition_penalty": 1.0})

    assert {name: asked[name] for name in own} == {**own, "repetition_penalty": 1.0}
    assert asked["pad_token_id"] == 7, "the tokenizer's where the model has none"


def test_what_no_generation_config_knows_is_left_out() -> None:
    asked = defaults({}, {"summarization": {"custom_generate": "a/b", "prefix": "x", "num_beams": 2}}).with_parameters(
        {}
    )

    assert "custom_generate" not in asked
    assert asked["num_beams"] == 2


def test_before_generation_configs_the_class_of_the_config_had_its_say() -> None:
    said = {"forced_eos_token_id": 2, "eos_token_id": 2, "decoder_start_token_id": 2}

    assert defaults({}, from_config=True, **said).with_parameters({})["forced_eos_token_id"] == 2
    assert defaults({}, from_config=False, **said).with_parameters({})["forced_eos_token_id"] is None


class TestPrefix:
    by_task: ClassVar[Mapping[str, Any]] = {
        "summarization": {"prefix": "summarize: "},
        "translation_en_to_de": {"prefix": "to German: "},
        "translation_en_to_fr": {"prefix": "to French: "},
    }

    @pytest.mark.parametrize(
        ("task", "prefix", "settled"),
        [
            ("summarization", "summarize: ", "summarization"),
            ("translation", "to German: ", "translation_en_to_de"),
            ("translation_en_to_fr", "to French: ", "translation_en_to_fr"),
            ("translation_en_to_ro", "p ", "translation_en_to_ro"),
        ],
    )
    def test_is_the_tasks_or_the_models(self, task: str, prefix: str, settled: str) -> None:
        found = defaults({}, self.by_task, task=task, prefix="p ")

        assert (found.prefix, found.task) == (prefix, settled)

    def test_may_be_none(self) -> None:
        assert defaults({}, None, task="translation").prefix == ""


class TestPositions:
    def test_end_the_writing_where_they_are_a_table(self) -> None:
        bounded = defaults({}, table=nn.Embedding(100, 4))

        assert bounded.with_parameters({})["max_length"] == 101
        assert bounded.with_parameters({"max_new_tokens": 50, "min_new_tokens": 50})["max_length"] == 51

    def test_leave_the_unused_ones_out(self) -> None:
        barts, robertas = nn.Embedding(102, 4), nn.Embedding(102, 4, padding_idx=1)
        barts.offset = 2  # type: ignore[assignment]

        assert [defaults({}, table=table).max_positions for table in (barts, robertas)] == [100, 100]

    def test_do_not_end_where_they_are_made_as_needed(self) -> None:
        assert defaults({}, table=nn.Identity()).with_parameters({})["max_length"] == 257
