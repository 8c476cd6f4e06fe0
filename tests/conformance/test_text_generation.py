"""text-generation equals `transformers.pipeline(...)`, which gets one prompt at a time.

The worker packs prompts and pads them on the left; none of it may show in what is written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline as transformers_pipeline

from models.pipelines.catalogue import Pipeline
from tests.conformance.conftest import RunBatches
from tests.factories import tiny_decoders
from worker.loading import runtime

TEXTS = [
    "a",
    "love",
    "the loved the",
    "Once upon a time",
    "世界 great 😀",
    "x" * 40,
    " it's " * 8,
    ".\n\n",
    "aaaa",
    "loving, loved, love; love!",
    "<|bot|>markers <|end|> in it",
    "abab",
    "خ é e\u0301 zero\u200bwidth",
    "0 1 2 3 4 5",
]
CHATS = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": "be nice"}, {"role": "user", "content": "what is 世界?"}],
    [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes, "}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c" * 40}],
]
INPUTS: list[Any] = [each for pair in zip(TEXTS, [*CHATS, *TEXTS], strict=False) for each in pair]

GREEDY = {"do_sample": False, "max_new_tokens": 12}
PARAMETERS: list[dict[str, Any]] = [
    GREEDY,
    # What is drawn from a single token is no matter of chance.
    {"max_new_tokens": 12, "top_k": 1},
    {"max_new_tokens": 12, "temperature": 0.5, "top_p": 1e-6, "min_p": 0.0, "typical_p": 1.0},
    {**GREEDY, "repetition_penalty": 1.7},
    {**GREEDY, "no_repeat_ngram_size": 2},
    {**GREEDY, "no_repeat_ngram_size": 1, "min_new_tokens": 12},
    {**GREEDY, "num_beams": 3},
    {**GREEDY, "num_beams": 3, "num_return_sequences": 2, "early_stopping": True, "length_penalty": 2.0},
    {**GREEDY, "num_beams": 2, "early_stopping": "never", "length_penalty": -1.0, "repetition_penalty": 1.3},
    {**GREEDY, "num_beams": 2, "stop_sequence": "e"},
    {**GREEDY, "stop_sequence": ["e", "a", "love"]},
    {**GREEDY, "stop_sequence": ["e", "a"], "skip_special_tokens": False},
    {**GREEDY, "min_new_tokens": 8, "skip_special_tokens": False},
    {**GREEDY, "return_full_text": False, "max_time": 3_600.0},
    {**GREEDY, "add_special_tokens": True, "return_full_text": True},
    {**GREEDY, "continue_final_message": False},
    {**GREEDY, "continue_final_message": True, "return_full_text": False},
    {**GREEDY, "handle_long_generation": "hole"},
]

# What a model's own generation config may say, and what is asked for beside it.
CONFIGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"do_sample": False, "max_new_tokens": 9}, {}),
    ({"do_sample": False, "max_length": 70}, {}),
    ({"do_sample": False, "max_length": 90, "min_length": 60, "repetition_penalty": 1.4}, {}),
    ({"do_sample": False, "max_length": 20, "num_beams": 2}, {"max_new_tokens": 10}),
    ({"do_sample": True, "top_k": 1}, {"max_new_tokens": 10}),
    ({"eos_token_id": [0, 100, 120], "pad_token_id": 40, "bad_words_ids": [[70, 71], [99]]}, GREEDY),
    ({"eos_token_id": None, "sequence_bias": [[[66], 9.0]]}, {**GREEDY, "num_beams": 2, "stop_sequence": "e"}),
    ({"return_dict_in_generate": True}, GREEDY),
]


class Reference:
    """The pipeline of transformers over a folder; it answers an equal question once, because most inputs come twice."""

    def __init__(self, folder: Path | None) -> None:
        self._pipeline = transformers_pipeline("text-generation", model=str(folder), device="cpu", dtype="float32")
        self._answers: dict[str, Any] = {}

    def answer(self, given: Any, asked: Mapping[str, Any]) -> Any:
        key = repr((given, asked))
        if key not in self._answers:
            self._answers[key] = self._pipeline(given, **asked)
        return self._answers[key]


def assert_equal_to_pipeline(
    entry: Pipeline, run_batches: RunBatches, inputs: list[Any], parameters: list[Mapping[str, Any]]
) -> list[list[Any]]:
    loaded = runtime.load(entry, "cpu", threads=1)
    reference = Reference(entry.folder)
    every = run_batches(loaded, inputs, parameters)
    for asked, rows in zip(parameters, every, strict=True):
        for given, row in zip(inputs, rows, strict=True):
            assert row.error_code is None, f"{asked} {given!r}: {row.error_message}"
            assert row.output == reference.answer(given, asked), f"{asked} {given!r}"
    return every


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "mistral", "gpt_neox", "opt", "bloom"])
def test_equals_pipeline(architecture: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = getattr(tiny_decoders, architecture)(tmp_path / "model")

    # Architectures differ in how they take padding, not in what is done with their scores.
    asked = PARAMETERS if architecture == "gpt2" else PARAMETERS[:7:2]
    every = assert_equal_to_pipeline(tiny_decoders.pipeline_for(folder), run_batches, INPUTS, asked)

    greedy = [str(row.output) for row in every[0]]
    assert len(set(greedy)) > len(TEXTS), "the model tells the prompts apart"


def test_equals_pipeline_where_passes_have_fixed_shapes(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_decoders.gpt2(tmp_path / "model")

    entry = tiny_decoders.pipeline_for(folder, deterministic=True)
    assert_equal_to_pipeline(entry, run_batches, INPUTS, PARAMETERS[:12])


@pytest.mark.parametrize(("generation", "asked"), CONFIGS, ids=str)
def test_equals_pipeline_with_the_model_s_own_generation_config(
    tmp_path: Path, run_batches: RunBatches, generation: dict[str, Any], asked: dict[str, Any]
) -> None:
    folder = tiny_decoders.llama(tmp_path / "model", generation=generation)

    assert_equal_to_pipeline(tiny_decoders.pipeline_for(folder), run_batches, INPUTS, [asked])


def test_equals_pipeline_where_a_prefix_goes_before_every_prompt(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_decoders.xlnet(tmp_path / "model")

    entry = tiny_decoders.pipeline_for(folder)
    assert_equal_to_pipeline(entry, run_batches, TEXTS[:4], [{**GREEDY, "max_new_tokens": 3}])


def test_equals_pipeline_where_a_prompt_is_cut_to_leave_room(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_decoders.gpt2(tmp_path / "model")
    inputs = ["short", "y" * 100 + " end of it", "z" * 300, [{"role": "user", "content": "w" * 200}]]

    asked = {**GREEDY, "handle_long_generation": "hole"}
    [rows] = assert_equal_to_pipeline(tiny_decoders.pipeline_for(folder), run_batches, inputs, [asked])

    assert [row.truncated for row in rows] == [False, False, True, True]


def test_bad_inputs_cost_their_own_row_alone(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_decoders.gpt2(tmp_path / "model")
    loaded = runtime.load(tiny_decoders.pipeline_for(folder), "cpu", threads=1)
    reference = transformers_pipeline("text-generation", model=str(folder), device="cpu", dtype="float32")
    tool = [{"role": "user", "content": "hi"}, {"role": "tool", "content": "3"}]
    inputs = ["fine", "x" * 117, "also fine", tool, "x" * 116, CHATS[0], "x" * 5_000]

    [rows] = run_batches(loaded, inputs, [GREEDY])

    codes = [row.error_code for row in rows]
    assert codes == [None, "input_too_long", None, "invalid_messages", None, None, "input_too_long"]
    assert "117 tokens and 12 new ones; this pipeline takes 128;" in rows[1].error_message
    assert "this model has no tools" in rows[3].error_message
    for place in (0, 2, 4, 5):
        assert rows[place].output == reference(inputs[place], **GREEDY)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seed_gives_the_same_text_in_any_company(tmp_path: Path, run_batches: RunBatches, dtype: str) -> None:
    folder = tiny_decoders.llama(tmp_path / "model")
    loaded = runtime.load(tiny_decoders.pipeline_for(folder, dtype=dtype), "cpu", threads=1)
    asked = {"max_new_tokens": 20, "temperature": 3.0, "top_k": 0, "num_return_sequences": 2}
    seven, eight, chance = {**asked, "seed": 7}, {**asked, "seed": 8}, asked

    [sampled, other, drawn] = run_batches(loaded, INPUTS, [seven, eight, chance])
    [backwards] = run_batches(loaded, INPUTS[::-1], [seven])
    few = [run_batches(loaded, INPUTS[place : place + 1], [seven])[0][0] for place in (0, 5, 9)]

    outputs = [row.output for row in sampled]
    assert [row.output for row in backwards[::-1]] == outputs
    assert [row.output for row in few] == [outputs[place] for place in (0, 5, 9)]
    assert all(first != second for first, second in outputs)
    assert all(row.output != output for row, output in zip(other, outputs, strict=True))
    assert all(row.output != output for row, output in zip(drawn, outputs, strict=True))
