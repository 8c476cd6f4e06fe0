"""Rows joined from the pieces of their tokens are the rows that the tokenizer decodes."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, WordLevel
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from tests.factories import tiny_encoders as encoders
from worker.adapters.tokenization import piece_decoding
from worker.adapters.tokenization.piece_decoding import VariantDecoder

WORDS = [
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "a",
    "##b",
    "c",
    ".",
    "##.",
    "'",
    "n't",
    "'s",
    "?",
    "é",
    "▁",
    "▁d",
    "e▁f",
    "##",
    " g",
    "<0xC3>",
    "<0xa9>",
    "<0x41>",
    "<0xF0>",
    "<0x>",
]
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}

GEMMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def made(decoder: Any, model: Any = None, **options: Any) -> Any:
    inner = Tokenizer(model or WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.decoder = decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **{**SPECIAL, **options})
    tokenizer.add_tokens(["added word", "▁x", "ñ\u0301"])
    return tokenizer


@cache
def tokenizer_for(name: str) -> Any:
    if name in encoders.ARCHITECTURES:
        return encoders.tokenizer_for(name)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    made_tokenizers: dict[str, Any] = {
        "wordpiece": lambda: made(decoders.WordPiece(cleanup=False)),
        "wordpiece, cleaned up": lambda: made(decoders.WordPiece(), clean_up_tokenization_spaces=True),
        "metaspace": lambda: made(decoders.Metaspace(prepend_scheme="never"), clean_up_tokenization_spaces=True),
        "bpe": lambda: made(decoders.ByteLevel(), BPE(vocabulary, []), clean_up_tokenization_spaces=True),
        "no padding": lambda: made(decoders.WordPiece(), pad_token=None),
        "no decoder": lambda: made(None),
        "ends of words": lambda: made(decoders.BPEDecoder()),
        "byte fallback": lambda: made(decoders.Sequence(GEMMA), clean_up_tokenization_spaces=True),
        "stripped": lambda: made(decoders.Sequence([*GEMMA, decoders.Strip(" ", 1, 0)])),
        "slow": ByT5Tokenizer,
    }
    return made_tokenizers[name]()


@cache
def decoder_for(name: str) -> VariantDecoder:
    return VariantDecoder(tokenizer_for(name))


JOINED = (
    *encoders.ARCHITECTURES,
    "wordpiece",
    "wordpiece, cleaned up",
    "metaspace",
    "bpe",
    "no padding",
    "byte fallback",
)
NOT_JOINED = ("no decoder", "ends of words", "stripped", "slow")


@pytest.mark.parametrize("name", [*JOINED, *NOT_JOINED])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_variants_are_the_tokenizer_s_own(name: str, data: st.DataObject, skip: bool) -> None:
    tokenizer = tokenizer_for(name)
    token = st.integers(0, len(tokenizer) - 1)
    special = st.sampled_from(tokenizer.all_special_ids)
    ids = data.draw(st.lists(st.one_of(token, special), min_size=1, max_size=12))
    position = data.draw(st.integers(0, len(ids) - 1))
    beyond = st.just(len(tokenizer) + 7) if tokenizer.is_fast else token
    tokens = data.draw(st.lists(st.one_of(token, special, beyond), max_size=4))

    texts = decoder_for(name).decode(ids, position, tokens, skip_special_tokens=skip)

    rows = [[*ids[:position], each, *ids[position + 1 :]] for each in tokens]
    unpadded = [[each for each in row if each != tokenizer.pad_token_id] for row in rows]
    assert texts == [tokenizer.decode(row, skip_special_tokens=skip) for row in unpadded]


@pytest.mark.parametrize(("position", "tokens"), [(0, [0]), (0, [69]), (1, [70]), (2, [71])])
def test_a_row_may_begin_with_gaps_of_the_vocabulary(position: int, tokens: list[int]) -> None:
    tokenizer = tokenizer_for("bert")
    ids = [69, 69, 70, 71]
    assert tokenizer.convert_ids_to_tokens(69) is None

    texts = decoder_for("bert").decode(ids, position, tokens, skip_special_tokens=False)

    row = [*ids[:position], *tokens, *ids[position + 1 :]]
    assert texts == [tokenizer.decode([token for token in row if token != tokenizer.pad_token_id])]


def test_pieces_are_joined_where_the_decoder_allows_it() -> None:
    joined = {name: decoder_for(name).joins_pieces for name in (*JOINED, *NOT_JOINED)}

    assert joined == {**dict.fromkeys(JOINED, True), **dict.fromkeys(NOT_JOINED, False)}


def test_pieces_are_not_joined_where_the_tokenizer_decodes_in_its_own_way() -> None:
    class Shouting(PreTrainedTokenizerFast):
        def _decode(self, *args: Any, **options: Any) -> str:
            return super()._decode(*args, **options).upper()

    tokenizer = Shouting(tokenizer_object=made(decoders.WordPiece()).backend_tokenizer, **SPECIAL)
    decoder = VariantDecoder(tokenizer)

    assert not decoder.joins_pieces
    assert decoder.decode([3, 2, 5], 1, [3], skip_special_tokens=False) == ["A A C"]


def test_a_probe_finds_pieces_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_decoding, "_cleans_up", lambda _tokenizer: False)

    assert not VariantDecoder(made(decoders.WordPiece(cleanup=False), clean_up_tokenization_spaces=True)).joins_pieces
