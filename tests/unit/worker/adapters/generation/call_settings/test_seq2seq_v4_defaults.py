"""The settings that transformers 4.57.6's pipelines pass to `generate`, recorded from them."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from torch import nn
from transformers import GenerationConfig

from worker.adapters.generation.call_settings.seq2seq_v4_defaults import Seq2SeqDefaults

NEW, OLD = "4.57.6", "4.30.0"


def defaults(
    model_values: dict[str, Any],
    params_by_task: Mapping[str, Any] | None = None,
    *,
    task: str = "summarization",
    version: str = NEW,
    table: Any = None,
    from_config: bool = False,
    **config: Any,
) -> Seq2SeqDefaults:
    generation = GenerationConfig(transformers_version=version, **model_values)
    generation._from_model_config = from_config
    model = SimpleNamespace(
        config=SimpleNamespace(task_specific_params=params_by_task, **config),
        generation_config=generation,
        get_decoder=lambda: SimpleNamespace(embed_positions=table, base_model=None),
    )
    return Seq2SeqDefaults.from_model(model, SimpleNamespace(pad_token_id=7), task)


@pytest.mark.parametrize("version", [NEW, OLD])
@pytest.mark.parametrize(
    ("model_values", "params_by_task", "parameters", "expected"),
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
    model_values: dict[str, Any],
    params_by_task: dict[str, Any],
    parameters: dict[str, Any],
    expected: tuple[int, int, int],
    version: str,
) -> None:
    settings = defaults(model_values, {"summarization": params_by_task}, version=version).with_parameters(parameters)

    assert (settings["max_length"], settings["min_length"], settings["num_beams"]) == expected
    assert settings["max_new_tokens"] is settings["min_new_tokens"] is None


def test_newer_generation_configs_also_replace_global_defaults() -> None:
    model_values = {"max_new_tokens": 30, "max_length": 60, "num_beams": 2}
    params_by_task = {"summarization": {"num_beams": 1}}

    new, old = (defaults(model_values, params_by_task, version=version).with_parameters({}) for version in (NEW, OLD))

    assert (new["max_length"], new["num_beams"]) == (31, 2)
    assert (old["max_length"], old["num_beams"]) == (60, 1)


def test_other_settings_come_from_the_model() -> None:
    model_values = {
        "forced_bos_token_id": 3,
        "bad_words_ids": [[5]],
        "no_repeat_ngram_size": 3,
        "length_penalty": 2.0,
        "early_stopping": True,
        "repetition_penalty": 1.2,
        "decoder_start_token_id": 2,
        "eos_token_id": [2, 4],
    }

    settings = defaults(model_values).with_parameters({"repetition_penalty": 1.0})

    assert {name: settings[name] for name in model_values} == {**model_values, "repetition_penalty": 1.0}
    assert settings["pad_token_id"] == 7, "the tokenizer's where the model has none"


def test_fields_unknown_to_generation_configs_are_left_out() -> None:
    settings = defaults(
        {}, {"summarization": {"custom_generate": "a/b", "prefix": "x", "num_beams": 2}}
    ).with_parameters({})

    assert "custom_generate" not in settings
    assert settings["num_beams"] == 2


def test_without_a_generation_config_the_model_config_counts() -> None:
    token_ids = {"forced_eos_token_id": 2, "eos_token_id": 2, "decoder_start_token_id": 2}

    assert defaults({}, from_config=True, **token_ids).with_parameters({})["forced_eos_token_id"] == 2
    assert defaults({}, from_config=False, **token_ids).with_parameters({})["forced_eos_token_id"] is None


class TestPrefix:
    params_by_task: ClassVar[Mapping[str, Any]] = {
        "summarization": {"prefix": "summarize: "},
        "translation_en_to_de": {"prefix": "to German: "},
        "translation_en_to_fr": {"prefix": "to French: "},
    }

    @pytest.mark.parametrize(
        ("task", "prefix", "resolved_task"),
        [
            ("summarization", "summarize: ", "summarization"),
            ("translation", "to German: ", "translation_en_to_de"),
            ("translation_en_to_fr", "to French: ", "translation_en_to_fr"),
            ("translation_en_to_ro", "p ", "translation_en_to_ro"),
        ],
    )
    def test_comes_from_the_task_or_the_model(self, task: str, prefix: str, resolved_task: str) -> None:
        resolved = defaults({}, self.params_by_task, task=task, prefix="p ")

        assert (resolved.prefix, resolved.task) == (prefix, resolved_task)

    def test_may_be_empty(self) -> None:
        assert defaults({}, None, task="translation").prefix == ""


class TestPositions:
    def test_limit_the_length_when_they_are_a_table(self) -> None:
        bounded = defaults({}, table=nn.Embedding(100, 4))

        assert bounded.with_parameters({})["max_length"] == 101
        assert bounded.with_parameters({"max_new_tokens": 50, "min_new_tokens": 50})["max_length"] == 51

    def test_exclude_unused_ones(self) -> None:
        bart_table, roberta_table = nn.Embedding(102, 4), nn.Embedding(102, 4, padding_idx=1)
        bart_table.offset = 2  # type: ignore[assignment]

        assert [defaults({}, table=table).max_positions for table in (bart_table, roberta_table)] == [100, 100]

    def test_have_no_limit_when_they_are_computed(self) -> None:
        assert defaults({}, table=nn.Identity()).with_parameters({})["max_length"] == 257
