"""Long texts: pieces give the tokens and offsets of a single call, for any text and tokenizer."""

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.factories import tiny_models
from worker.adapters.tokenization import long_texts
from worker.adapters.tokenization.long_texts import LongTextTokenizer

LENGTH = 30_000  # characters
PIECE, OVERLAPS = 8_192, (1_024, 1_027, 4_095)
KEPT_TOKENS = 300

RANDOM = random.Random(5)
WORDS = "the product was great, isn't it? 1234 (no) don't worry… naïve Ünder [SEP] <|endoftext|> e\u0301".split()  # noqa: SIM905


def repeat(text: str) -> str:
    return (text * (LENGTH // len(text) + 1))[:LENGTH]


def random_text(first: int, last: int, length: int = LENGTH) -> str:
    return "".join(map(chr, RANDOM.choices(range(first, last + 1), k=length)))


def mixed_text() -> str:
    kinds: list[Callable[[], str]] = [
        lambda: RANDOM.choice(WORDS) + " ",
        lambda: "".join(chr(RANDOM.randint(0x4E00, 0x9FA0)) for _ in range(RANDOM.randint(1, 20))),
        lambda: RANDOM.choice(" \n\t\u3000") * RANDOM.randint(1, 2_000),
        lambda: "x" * RANDOM.randint(1, 2_000),
        lambda: str(RANDOM.randint(1, 10**18)),
        lambda: "😀" * RANDOM.randint(1, 9),
    ]
    return "".join(kind() for kind in RANDOM.choices(kinds, [50, 5, 1, 1, 5, 5], k=LENGTH // 5))[:LENGTH]


TEXTS: dict[str, Callable[[], str]] = {
    "English": lambda: repeat(" ".join(RANDOM.choices(WORDS, k=5_000))),
    "mixed": mixed_text,
    "Chinese": lambda: random_text(0x4E00, 0x9FA0),
    "emoji": lambda: random_text(0x1F300, 0x1F5FF),
    "one emoji": lambda: repeat("😀"),
    "one letter": lambda: repeat("x"),
    "one letter from an odd offset": lambda: "y" + repeat("x"),
    "three letters": lambda: repeat("xyz"),
    "letters": lambda: random_text(ord("a"), ord("p")),
    "digits": lambda: repeat("1234567"),
    "blanks": lambda: repeat(" "),
    "words behind blanks": lambda: repeat(" ") + "hello world " * 400,
    "blanks behind words": lambda: "hello world " * 400 + repeat(" "),
    "punctuation": lambda: repeat("!?.,"),
    "marks on one letter": lambda: "a" + random_text(0x0300, 0x0330),
    "lines of base64": lambda: "\n".join(random_text(ord("A"), ord("Z"), 76) for _ in range(60)) * 13,
}


@functools.cache
def text_of(name: str) -> str:
    """Return a text; each is made in the first test that takes it, and the same in any order of tests."""
    RANDOM.seed(name)
    return TEXTS[name]()


def sample(task: str) -> Any:
    return AutoTokenizer.from_pretrained(SAMPLES_FOLDER / task)


def unigram() -> Any:
    """The kind of XLM-R and T5: word pieces by their scores, with a sign for blanks."""
    source = random.Random(1)
    pieces = {"".join(source.choices("▁abcdehlorstwxy", k=source.randint(2, 6))) for _ in range(600)}
    letters = [chr(code) for code in range(33, 127)] + ["▁", "世"]
    scored = [("<unk>", 0.0), *((piece, -source.uniform(4, 9)) for piece in sorted(pieces) + letters)]
    backend = Tokenizer(models.Unigram(scored, unk_id=0))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def llama() -> Any:
    """Byte pairs over whole texts: no pre-tokenizer, a blank put before each text."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyz0123456789", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("x", "x"), ("xx", "xx"), ("xxxx", "xxxx"), ("▁", "▁"), ("y", "z")]
    words = letters + ["".join(pair) for pair in merges]
    backend = Tokenizer(
        models.BPE({word: number for number, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


TOKENIZERS = {
    "word pieces": lambda: tiny_models.wordpiece_tokenizer(),
    "byte pairs": lambda: sample("text-generation"),
    "bytes": lambda: tiny_models.byte_tokenizer(62),
    "unigram": unigram,
    "llama": llama,
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(long_texts, "PIECE_CHARACTERS", PIECE)
    monkeypatch.setattr(long_texts, "OVERLAP_CHARACTERS", OVERLAPS)
    return


def encode_at_once(tokenizer: Any, text: str) -> Any:
    return tokenizer([text], add_special_tokens=False).encodings[0]


@pytest.mark.parametrize("name", TEXTS)
def test_pieces_give_the_tokens_of_a_single_call(tokenizer: Any, name: str) -> None:
    expected = encode_at_once(tokenizer, text_of(name))

    tokens = LongTextTokenizer(tokenizer).tokenize(text_of(name))

    assert tokens.id_array.tolist() == expected.ids
    assert list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)) == expected.offsets
    assert [None if word < 0 else word for word in tokens.words.tolist()] == expected.word_ids


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_shortened_text_begins_or_ends_with_the_same_tokens(tokenizer: Any, name: str, side: str) -> None:
    expected = encode_at_once(tokenizer, text_of(name)).ids

    shortened = encode_at_once(
        tokenizer, LongTextTokenizer(tokenizer).truncate_text(text_of(name), KEPT_TOKENS, side)
    ).ids

    part = slice(KEPT_TOKENS) if side == "right" else slice(-KEPT_TOKENS, None)
    assert shortened[part] == expected[part]
    assert (len(shortened) > KEPT_TOKENS) is (len(expected) > KEPT_TOKENS)


@pytest.mark.parametrize("name", ["English", "punctuation", "lines of base64"])
def test_no_call_takes_more_than_a_piece(tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, lengths = LongTextTokenizer(tokenizer), []
    original = texts.tokenize_at_once

    def record_length(text: str, offset: int = 0) -> Any:
        lengths.append(len(text))
        return original(text, offset)

    monkeypatch.setattr(LongTextTokenizer, "tokenize_at_once", lambda _self, *args: record_length(*args))
    texts.tokenize(text_of(name))
    assert max(lengths) == PIECE

    lengths.clear()
    texts.truncate_text(text_of(name), KEPT_TOKENS)
    assert sum(lengths) < LENGTH / 2


@pytest.mark.parametrize("sizes", [(9_000, 15_000), (15_000, 9_000), (15_000, 15_000), (20_000, 20), (20, 20_000)])
@pytest.mark.parametrize("limit", [63, 64])
def test_a_shortened_pair_is_cut_as_the_full_one(sizes: tuple[int, int], limit: int) -> None:
    tokenizer = tiny_models.wordpiece_tokenizer()
    source = random.Random(5)
    pair = tuple(" ".join(source.choices(["the", "great", "product"], k=size // 5)) for size in sizes)
    expected = tokenizer(*pair, truncation=True, max_length=limit)

    shortened = LongTextTokenizer(tokenizer).truncate_pair(*pair, limit, "right")

    assert dict(tokenizer(*shortened, truncation=True, max_length=limit)) == dict(expected)
    assert sum(map(len, shortened)) < sum(sizes)


def test_tokens_are_stored_as_c_ints() -> None:
    tokens = LongTextTokenizer(tiny_models.wordpiece_tokenizer()).tokenize("the " * 10_000)

    assert tokens.ids.dtype == np.int32
    assert tokens.id_array.itemsize == 4


def test_a_tokenizer_in_plain_python_is_not_supported(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    assert long_texts.long_text_tokenizer_for(ByT5Tokenizer()) is None
