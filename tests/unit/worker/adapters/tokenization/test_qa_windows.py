"""Windows of a passage equal those of the tokenizer's own truncation, and so do their character offsets."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.golden import qa_models
from tests.golden.question_answering import LONG_INPUTS, SHORT_INPUTS
from worker.adapters.tokenization.qa_windows import Passage, Window

Make = Callable[[Path], Path]

RANDOM = random.Random(3)
LENGTHS = [(RANDOM.randint(24, 90), RANDOM.randint(0, 20)) for _ in range(12)]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], Any]:
    cache: dict[Make, Any] = {}

    def tokenizer(make: Make) -> Any:
        if make not in cache:
            cache[make] = AutoTokenizer.from_pretrained(make(tmp_path_factory.mktemp("model")))
        return cache[make]

    return tokenizer


def tokenizer_windows(tokenizer: Any, texts: tuple[str, str], max_length: int, stride: int, truncation: str) -> Any:
    return tokenizer(
        *texts,
        truncation=truncation,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
    ).encodings


def word_characters(encoding: Any, start: int, end: int, sequence: int) -> tuple[int, int]:
    """The first and last characters of the words around two tokens, as transformers 4.57.6 computes them."""
    try:
        first = encoding.word_to_chars(encoding.token_to_word(start), sequence)[0]
        return first, encoding.word_to_chars(encoding.token_to_word(end), sequence)[1]
    except TypeError:
        return encoding.offsets[start][0], encoding.offsets[end][1]


@pytest.mark.parametrize(
    "make",
    [qa_models.bert, qa_models.left_bert, qa_models.left_cut_bert, qa_models.roberta, qa_models.deberta],
    ids=lambda m: m.__name__,
)
def test_windows_equal_those_of_the_tokenizer(make: Make, tokenizers: Callable[[Make], Any]) -> None:
    tokenizer = tokenizers(make)
    context_index = 0 if tokenizer.padding_side == "left" else 1
    compared = 0
    for example in [*SHORT_INPUTS, *LONG_INPUTS]:
        texts = (example["question"], example["context"])[:: 1 if context_index else -1]
        passage = Passage(tokenizer(*texts).encodings[0], context_index, has_token_types=True)
        for max_length, stride in LENGTHS:
            context_tokens = max_length - passage.overhead_tokens
            if stride >= context_tokens:
                continue
            truncation = "only_second" if context_index else "only_first"
            expected = tokenizer_windows(tokenizer, texts, max_length, stride, truncation)
            windows = passage.windows(context_tokens, stride, from_the_end=tokenizer.truncation_side == "left")
            assert [list(window["input_ids"]) for window in windows] == [encoding.ids for encoding in expected]
            assert [list(window["token_type_ids"]) for window in windows] == [
                encoding.type_ids for encoding in expected
            ]
            assert len(windows) == passage.window_count(context_tokens, stride)
            for window, encoding in zip(windows, expected, strict=True):
                assert_same_characters(window, encoding, context_index)
                compared += 1
    assert compared > 300


def assert_same_characters(window: Window, encoding: Any, context_index: int) -> None:
    starts = np.arange(len(encoding.ids))
    ends = np.minimum(starts + RANDOM.randint(0, 9), len(starts) - 1)
    for whole_words in (False, True):
        first, last = window.character_spans(starts, ends, whole_words=whole_words)
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        if whole_words:
            expected = [word_characters(encoding, start, end, context_index) for start, end in spans]
        else:
            expected = [(encoding.offsets[start][0], encoding.offsets[end][1]) for start, end in spans]
        assert list(zip(first.tolist(), last.tolist(), strict=True)) == expected


def test_a_context_without_tokens_gives_one_window(tokenizers: Callable[[Make], Any]) -> None:
    encoding = tokenizers(qa_models.bert)("the", "\u200b").encodings[0]

    [window] = Passage(encoding, 1, has_token_types=True).windows(10, 5)

    assert list(window["input_ids"]) == encoding.ids
    assert window.context_slice == slice(0, 0)


def test_a_window_has_types_only_if_the_model_takes_them(tokenizers: Callable[[Make], Any]) -> None:
    encoding = tokenizers(qa_models.bert)("the", "river").encodings[0]

    [typed], [untyped] = (Passage(encoding, 1, has_token_types=typed).windows(10, 5) for typed in (True, False))

    features = {name: list(values) for name, values in typed.items()}
    assert features == {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
    assert list(untyped) == ["input_ids"]
