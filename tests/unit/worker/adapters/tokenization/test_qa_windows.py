"""Passages: their windows are those of the tokenizer's own truncation, and so are the places of characters in them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.golden import models
from tests.golden.question_answering import LONG_INPUTS, SHORT_INPUTS
from worker.adapters.tokenization.qa_windows import Passage, Window

Make = Callable[[Path], Path]

RANDOM = random.Random(3)
LENGTHS = [(RANDOM.randint(24, 90), RANDOM.randint(0, 20)) for _ in range(12)]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], Any]:
    made: dict[Make, Any] = {}

    def tokenizer(make: Make) -> Any:
        if make not in made:
            made[make] = AutoTokenizer.from_pretrained(make(tmp_path_factory.mktemp("model")))
        return made[make]

    return tokenizer


def own_windows(tokenizer: Any, texts: tuple[str, str], longest: int, shared: int, cut: str) -> Any:
    return tokenizer(
        *texts,
        truncation=cut,
        max_length=longest,
        stride=shared,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
    ).encodings


def characters(encoding: Any, start: int, end: int, place: int) -> tuple[int, int]:
    """Where the words around two tokens begin and end, as transformers 4.57.6 finds it."""
    try:
        first = encoding.word_to_chars(encoding.token_to_word(start), place)[0]
        return first, encoding.word_to_chars(encoding.token_to_word(end), place)[1]
    except TypeError:
        return encoding.offsets[start][0], encoding.offsets[end][1]


@pytest.mark.parametrize(
    "make",
    [models.bert, models.left_bert, models.left_cut_bert, models.roberta, models.deberta],
    ids=lambda m: m.__name__,
)
def test_windows_are_the_tokenizer_s_own(make: Make, tokenizers: Callable[[Make], Any]) -> None:
    tokenizer = tokenizers(make)
    place = 0 if tokenizer.padding_side == "left" else 1
    compared = 0
    for given in [*SHORT_INPUTS, *LONG_INPUTS]:
        texts = (given["question"], given["context"])[:: 1 if place else -1]
        passage = Passage(tokenizer(*texts).encodings[0], place, has_token_types=True)
        for longest, shared in LENGTHS:
            room = longest - passage.overhead_tokens
            if shared >= room:
                continue
            expected = own_windows(tokenizer, texts, longest, shared, "only_second" if place else "only_first")
            windows = passage.windows(room, shared, from_the_end=tokenizer.truncation_side == "left")
            assert [window["input_ids"] for window in windows] == [each.ids for each in expected]
            assert [window["token_type_ids"] for window in windows] == [each.type_ids for each in expected]
            assert len(windows) == passage.window_count(room, shared)
            for window, each in zip(windows, expected, strict=True):
                assert_same_characters(window, each, place)
                compared += 1
    assert compared > 300


def assert_same_characters(window: Window, encoding: Any, place: int) -> None:
    starts = np.arange(len(encoding.ids))
    ends = np.minimum(starts + RANDOM.randint(0, 9), len(starts) - 1)
    for whole_words in (False, True):
        first, last = window.character_spans(starts, ends, whole_words=whole_words)
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        if whole_words:
            expected = [characters(encoding, start, end, place) for start, end in spans]
        else:
            expected = [(encoding.offsets[start][0], encoding.offsets[end][1]) for start, end in spans]
        assert list(zip(first.tolist(), last.tolist(), strict=True)) == expected


def test_windows_of_a_context_without_a_token_are_one(tokenizers: Callable[[Make], Any]) -> None:
    encoding = tokenizers(models.bert)("the", "\u200b").encodings[0]

    [window] = Passage(encoding, 1, has_token_types=True).windows(10, 5)

    assert window["input_ids"] == encoding.ids
    assert window.context_slice == slice(0, 0)


def test_a_window_has_types_only_where_the_model_takes_them(tokenizers: Callable[[Make], Any]) -> None:
    encoding = tokenizers(models.bert)("the", "river").encodings[0]

    [typed], [untyped] = (Passage(encoding, 1, has_token_types=typed).windows(10, 5) for typed in (True, False))

    assert dict(typed) == {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
    assert dict(untyped) == {"input_ids": encoding.ids}
