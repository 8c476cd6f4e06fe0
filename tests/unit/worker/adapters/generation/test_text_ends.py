"""The ends of texts: how many tokens were generated, and whether a limit cut a text off."""

from pathlib import Path
from typing import Any

import pytest

from models import tasks
from tests.factories import tiny_decoders
from tests.factories.tiny_decoders import pipeline_for
from worker.adapters.generation.text_ends import TextEnds
from worker.adapters.rows import GeneratedTexts, MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

END, PAD, START = 2, 0, 9
PROMPTS = ("love", "a", "bad")
CAUSAL = TextEnds(frozenset({END, 3}), max_tokens=4)
SEQ2SEQ = TextEnds(frozenset({END}), max_tokens=4, start_tokens=1, padding_id=PAD)


def read(ends: TextEnds, *texts: list[int], stopped: tuple[bool, ...] = (), is_out_of_time: bool = False) -> Any:
    found = ends.read(texts, stopped, is_out_of_time=is_out_of_time)
    assert found == list(texts)
    return found.tokens, found.has_ended, found.is_out_of_time


@pytest.mark.parametrize(
    ("ids", "tokens", "has_ended"),
    [
        ([5, END], 2, True),
        ([5, 5, 3], 3, True),
        ([5, 5, 5, END], 4, True),
        ([5, 5, 5, 5], 4, False),
        ([5, 5], 2, True),  # a complete output schema
        ([], 0, True),
    ],
)
def test_a_text_of_a_causal_model(ids: list[int], tokens: int, has_ended: bool) -> None:
    assert read(CAUSAL, ids) == (tokens, has_ended, False)


@pytest.mark.parametrize(
    ("ids", "tokens", "has_ended"),
    [
        ([START, 5, END, PAD, PAD], 2, True),
        ([END, 5, END], 2, True),  # a decoder that starts with the end token
        ([END, 5, 5, 5, 5], 4, False),
        ([START, 5, 5, PAD, PAD], 2, True),  # at a stop string, beside a longer text
    ],
)
def test_a_text_of_an_encoder_decoder(ids: list[int], tokens: int, has_ended: bool) -> None:
    assert read(SEQ2SEQ, ids) == (tokens, has_ended, False)


def test_a_forced_end_token_at_the_limit_hides_no_cut() -> None:
    forced = TextEnds(frozenset({END}), max_tokens=4, start_tokens=1, has_forced_end=True)

    assert read(forced, [START, 5, 5, 5, END]) == (4, False, False)
    assert read(forced, [START, 5, 5, END]) == (3, True, False)


def test_a_stop_string_in_the_last_token_ends_a_text() -> None:
    assert read(CAUSAL, [5, 5, 5, 5], stopped=(True,)) == (4, True, False)


def test_texts_of_one_row_are_summed_and_one_cut_off_counts_for_all() -> None:
    assert read(CAUSAL, [5, END], [5, 5, 5, 5], [5, 5, 5, 5], stopped=(False, False, True)) == (10, False, False)
    assert read(CAUSAL, [5, END], [5, 5, END]) == (5, True, False)


def test_a_text_without_time_is_cut_off_unless_it_had_ended() -> None:
    assert read(CAUSAL, [5, 5], is_out_of_time=True) == (2, False, True)
    assert read(CAUSAL, [5, END], is_out_of_time=True) == (2, True, False)
    assert read(CAUSAL, [5, 5], stopped=(True,), is_out_of_time=True) == (2, True, False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.gpt2(tmp_path_factory.mktemp("decoder") / "model")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Any:
    return runtime.load(pipeline_for(folder), "cpu", threads=1).adapter


def generate(adapter: Any, **parameters: Any) -> list[GeneratedTexts]:
    checked = tasks.find_spec("text-generation").check_parameters({"do_sample": False, **parameters})
    lease = Lease(1, "batch", 0, 3, 1, 1, parameters=checked)
    encoded = adapter.encode([Job(lease, place, {"text": text}) for place, text in enumerate(PROMPTS)])
    raw_outputs: list[GeneratedTexts] = adapter.forward(MicroBatch(tuple(row for rows in encoded for row in rows)))
    return raw_outputs


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"num_beams": 2},
        {"num_beams": 3, "num_return_sequences": 3},
        {"do_sample": True, "seed": 1},
        {"do_sample": True, "num_return_sequences": 2},
        {"do_sample": True, "num_beams": 2, "seed": 3},
    ],
    ids=str,
)
def test_each_way_to_generate_counts_its_tokens(adapter: Any, parameters: dict[str, Any]) -> None:
    cut = generate(adapter, max_new_tokens=6, min_new_tokens=6, **parameters)

    for texts in cut:
        assert (texts.tokens, texts.has_ended, texts.is_out_of_time) == (6 * len(texts), False, False)
        assert [len(ids) for ids in texts] == [6] * len(texts)


@pytest.mark.parametrize("parameters", [{}, {"num_beams": 2}], ids=str)
def test_a_text_has_the_tokens_of_transformers(adapter: Any, parameters: dict[str, Any]) -> None:
    model, tokenizer = adapter._pipeline.model, adapter._tokenizer

    ours = generate(adapter, max_new_tokens=30, **parameters)

    for prompt, texts in zip(PROMPTS, ours, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt")
        [ids] = model.generate(**inputs, max_new_tokens=30, do_sample=False, pad_token_id=0, **parameters).tolist()
        new = ids[inputs["input_ids"].shape[1] :]
        assert texts == [new]
        assert (texts.tokens, texts.has_ended) == (len(new), new[-1] == tokenizer.eos_token_id)


@pytest.mark.parametrize("parameters", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 1}], ids=str)
def test_a_stop_string_ends_a_text(adapter: Any, parameters: dict[str, Any]) -> None:
    [first, *_] = generate(adapter, max_new_tokens=6, min_new_tokens=6, **parameters)
    tokenizer = adapter._tokenizer
    stop = tokenizer.decode(first[0][:2])

    [stopped, *_] = generate(adapter, max_new_tokens=6, min_new_tokens=6, stop_strings=stop, **parameters)

    assert stopped.has_ended
    assert stopped.tokens == sum(map(len, stopped)) < 6
