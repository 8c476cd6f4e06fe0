"""The batch tokenizer returns what `tokenizer(...)` returns, whichever call it makes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from tests.factories import tiny_models
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer, TokenizedTexts

LIMIT = 9
TEXTS = [
    "love it",
    "",
    "  ",
    "the great product " * 8,
    "[MASK] a [SEP] <mask> b",
    "世界 é e\u0301 \U0001f600",
    "l" * 200,
]
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "wordpiece": tiny_models.wordpiece_tokenizer,
    "bytes": lambda: tiny_models.byte_tokenizer(64),
    "plain Python": lambda: ByT5Tokenizer(model_max_length=64),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def reference(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, *, special: bool, limit: int | None
) -> TokenizedTexts:
    """Each text in a separate ordinary call."""
    features, truncated = [], []
    for index, text in enumerate(texts):
        pair = None if pairs is None else [pairs[index]]
        options = {"text_pair": pair, "add_special_tokens": special, "return_attention_mask": False}
        cut = tokenizer([text], truncation=limit is not None, max_length=limit, **options)
        whole = tokenizer([text], truncation=False, **options)
        features.append({name: values[0] for name, values in cut.items()})
        truncated.append(len(cut["input_ids"][0]) < len(whole["input_ids"][0]))
    return TokenizedTexts(features, truncated)


def as_lists(tokenized: TokenizedTexts) -> TokenizedTexts:
    return TokenizedTexts(
        [{name: list(ids) for name, ids in row.items()} for row in tokenized.features], tokenized.truncated
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [None, LIMIT])
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("paired", [False, True])
def test_gives_what_the_tokenizer_gives(
    tokenizer: Any, paired: bool, special: bool, limit: int | None, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if paired and side == "left" and not tokenizer.is_fast:
        pytest.skip("in plain Python, transformers cuts some pairs to fewer tokens than it may")
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    pairs = TEXTS[::-1] if paired else None
    batch_tokenizer = BatchTokenizer(tokenizer, add_special_tokens=special, max_length=limit)
    tokenizer("another caller changes the state", truncation=True, max_length=5, padding="max_length")

    tokenized = batch_tokenizer.tokenize(TEXTS, pairs)

    assert as_lists(tokenized) == reference(tokenizer, TEXTS, pairs, special=special, limit=limit)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_gives_what_the_tokenizer_gives_for_any_text(texts: list[str]) -> None:
    tokenizer = TOKENIZERS["bytes"]()

    tokenized = BatchTokenizer(tokenizer, max_length=LIMIT).tokenize(texts)

    assert as_lists(tokenized) == reference(tokenizer, texts, None, special=True, limit=LIMIT)


@pytest.mark.parametrize("paired", [False, True])
def test_uses_the_library_for_fast_tokenizers(paired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_tokenizer = BatchTokenizer(tiny_models.wordpiece_tokenizer(), max_length=LIMIT)
    pairs = TEXTS if paired else None
    expected = batch_tokenizer.tokenize(TEXTS, pairs)

    monkeypatch.setattr(type(batch_tokenizer._tokenizer), "_encode_plus", None)

    assert batch_tokenizer.tokenize(TEXTS, pairs) == expected


@pytest.mark.parametrize("splits", [False, True])
def test_special_tokens_in_a_text_are_read_as_the_tokenizer_says(splits: bool) -> None:
    tokenizer = tiny_models.wordpiece_tokenizer()
    tokenizer.split_special_tokens = splits
    expected = tokenizer(["a [SEP] b"])["input_ids"]
    tokenizer(["a [SEP] b"], split_special_tokens=not splits)

    features = as_lists(BatchTokenizer(tokenizer).tokenize(["a [SEP] b"])).features

    assert [row["input_ids"] for row in features] == expected


def test_leaves_a_tokenizer_that_does_more_to_itself() -> None:
    class Repeating(type(tiny_models.wordpiece_tokenizer())):  # type: ignore[misc]
        def _encode_plus(self, text: Any, *args: Any, **options: Any) -> Any:
            return super()._encode_plus([f"{part} {part}" for part in text], *args, **options)

    tokenizer = tiny_models.wordpiece_tokenizer()
    plain = BatchTokenizer(tokenizer).tokenize(["great"])
    tokenizer.__class__ = Repeating

    tokenized = BatchTokenizer(tokenizer).tokenize(["great"])

    assert tokenized != plain
    assert as_lists(tokenized).features[0]["input_ids"] == tokenizer(["great"])["input_ids"][0]


def test_makes_the_ordinary_call_if_the_library_gives_something_else() -> None:
    class OtherBackend:
        def __init__(self, backend: Any) -> None:
            self._backend = backend

        def __getattr__(self, name: str) -> Any:
            return getattr(self._backend, name)

        def encode_batch_fast(self, inputs: list[str], **options: Any) -> Any:
            return self._backend.encode_batch([f"{text} a" for text in inputs], **options)

    tokenizer = tiny_models.wordpiece_tokenizer()
    expected = tokenizer(TEXTS)["input_ids"]
    tokenizer._tokenizer = OtherBackend(tokenizer._tokenizer)

    features = as_lists(BatchTokenizer(tokenizer).tokenize(TEXTS)).features

    assert [row["input_ids"] for row in features] == expected


def test_positions_are_those_of_the_tokenizer() -> None:
    tokenizer = tiny_models.byte_tokenizer(64)
    expected = tokenizer(TEXTS, TEXTS[::-1], return_offsets_mapping=True)

    encodings = BatchTokenizer(tokenizer).tokenize_with_positions(TEXTS, TEXTS[::-1])

    assert [encoding.ids for encoding in encodings] == expected["input_ids"]
    for index, encoding in enumerate(encodings):
        assert np.array_equal(encoding.offsets, expected["offset_mapping"][index])
        assert encoding.word_ids == expected.word_ids(index)
