"""Tokenizers of tiny summarizers and translators: the files, and what is in them."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

from tests.golden import sentencepiece_file
from tests.golden.qa_models import LETTERS

MAX_POSITIONS = 96
WORDS = (
    "the",
    "river",
    "city",
    "of",
    "and",
    "is",
    "was",
    "house",
    "der",
    "Fluss",
    "die",
    "Stadt",
    "und",
    "ist",
    "Haus",
    "summarize",
    "translate",
    "English",
    "German",
    "French",
    "to",
    "世",
    "界",
)
SpecialTokenFrame = tuple[Sequence[str], Sequence[str]]


def vocabulary_words() -> list[str]:
    letters = [*LETTERS, *string.ascii_uppercase]
    return list(dict.fromkeys(["▁", *(f"▁{word}" for word in WORDS), *WORDS, *letters]))


def sentencepiece_vocabulary(
    words: Sequence[str], undecoded_words: Sequence[str] = ()
) -> list[sentencepiece_file.Piece]:
    """For a SentencePiece model; `silent` words are decoded to nothing."""
    special = [
        ("<unk>", 0.0, sentencepiece_file.UNKNOWN),
        *((word, 0.0, sentencepiece_file.CONTROL) for word in ("<s>", "</s>")),
    ]
    kinds = {
        word: sentencepiece_file.CONTROL if word in undecoded_words else sentencepiece_file.NORMAL for word in words
    }
    return [*special, *((word, _word_score(word), kinds[word]) for word in words)]


def _word_score(word: str) -> float:
    if len(word) > 1 and word[0] == "<":
        return 0.0
    return -2.0 if word.strip("▁") in WORDS or word == "▁" else -5.0


def unigram_model(words: Sequence[str], unknown: int) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": [[word, _word_score(word)] for word in words],
        "byte_fallback": False,
    }


def tokenizer_json(
    model: Mapping[str, Any],
    words: Sequence[str],
    special_tokens: Sequence[str],
    frame: SpecialTokenFrame,
    space_symbol: str = "one",
) -> dict[str, Any]:
    """A tokenizer.json: `frame` before and after every text.

    `spaces_are` says what becomes of them, as transformers 5 will have it for the class: every white space "parts"
    words, several become "one", or they are "kept".
    """
    squeezed = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    parted = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]}
    before, after = ([{"SpecialToken": {"id": word, "type_id": 0}} for word in part] for part in frame)
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": words.index(word),
                "content": word,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for word in special_tokens
        ],
        "normalizer": squeezed if space_symbol == "one" else None,
        "pre_tokenizer": parted if space_symbol == "parts" else spaces,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*before, first, *after],
            "pair": [*before, first, second, *after],
            "special_tokens": {
                word: {"id": word, "ids": [words.index(word)], "tokens": [word]} for part in frame for word in part
            },
        },
        "decoder": spaces,
        "model": model,
    }


def tokenizer_config(tokenizer: str, **fields: Any) -> dict[str, Any]:
    return {
        "tokenizer_class": tokenizer,
        "model_max_length": MAX_POSITIONS,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
        **fields,
    }
