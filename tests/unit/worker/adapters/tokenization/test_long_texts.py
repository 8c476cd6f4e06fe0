"""Long texts: in pieces they come to the tokens of one call, in their places, whatever the text and the tokenizer."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.pipelines.pipeline import SAMPLES_FOLDER
from tests import models_made
from worker.adapters.tokenization import long_texts
from worker.adapters.tokenization.long_texts import LongTextTokenizer

LENGTH = 30_000  # characters
PIECE, OVERLAPS = 8_192, (1_024, 1_027, 4_095)
KEPT = 300  # tokens

RANDOM = random.Random(5)
WORDS = "the product was great, isn't it? 1234 (no) don't worry… naïve Ünder [SEP] <|endoftext|> e\u0301".split()  # noqa: SIM905


def repeated(text: str) -> str:
    return (text * (LENGTH // len(text) + 1))[:LENGTH]


def drawn(first: int, last: int) -> str:
    return "".join(chr(RANDOM.randint(first, last)) for _ in range(LENGTH))


def mixed() -> str:
    kinds: list[Callable[[], str]] = [
        lambda: RANDOM.choice(WORDS) + " ",
        lambda: "".join(chr(RANDOM.randint(0x4E00, 0x9FA0)) for _ in range(RANDOM.randint(1, 20))),
        lambda: RANDOM.choice(" \n\t\u3000") * RANDOM.randint(1, 2_000),
        lambda: "x" * RANDOM.randint(1, 2_000),
        lambda: str(RANDOM.randint(1, 10**18)),
        lambda: "😀" * RANDOM.randint(1, 9),
    ]
    return "".join(kind() for kind in RANDOM.choices(kinds, [50, 5, 1, 1, 5, 5], k=LENGTH // 5))[:LENGTH]


TEXTS = {
    "English": repeated(" ".join(RANDOM.choices(WORDS, k=5_000))),
    "mixed": mixed(),
    "Chinese": drawn(0x4E00, 0x9FA0),
    "emoji": drawn(0x1F300, 0x1F5FF),
    "one emoji": repeated("😀"),
    "one letter": repeated("x"),
    "one letter from an odd place": "y" + repeated("x"),
    "three letters": repeated("xyz"),
    "letters": drawn(ord("a"), ord("p")),
    "digits": repeated("1234567"),
    "blanks": repeated(" "),
    "words behind blanks": repeated(" ") + "hello world " * 400,
    "blanks behind words": "hello world " * 400 + repeated(" "),
    "punctuation": repeated("!?.,"),
    "marks on one letter": "a" + drawn(0x0300, 0x0330),
    "lines of base64": "\n".join(drawn(ord("A"), ord("Z"))[:76] for _ in range(60)) * 13,
}


def sample(task: str) -> Any:
    return AutoTokenizer.from_pretrained(SAMPLES_FOLDER / task)


def unigram() -> Any:
    """XLM-R's and T5's kind: pieces of words by their scores, blanks as a sign of their own."""
    source = random.Random(1)
    pieces = {"".join(source.choices("▁abcdehlorstwxy", k=source.randint(2, 6))) for _ in range(600)}
    letters = [chr(code) for code in range(33, 127)] + ["▁", "世"]
    scored = [("<unk>", 0.0), *((piece, -source.uniform(4, 9)) for piece in sorted(pieces) + letters)]
    made = Tokenizer(models.Unigram(scored, unk_id=0))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def llama() -> Any:
    """Byte pairs over whole texts: no pre-tokenizer, a blank put before each text."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyz0123456789", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("x", "x"), ("xx", "xx"), ("xxxx", "xxxx"), ("▁", "▁"), ("y", "z")]
    words = letters + ["".join(pair) for pair in merges]
    made = Tokenizer(
        models.BPE({word: number for number, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


TOKENIZERS = {
    "word pieces": lambda: models_made.wordpiece_tokenizer(),
    "byte pairs": lambda: sample("text-generation"),
    "bytes": lambda: models_made.byte_tokenizer(62),
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


def whole(tokenizer: Any, text: str) -> Any:
    return tokenizer([text], add_special_tokens=False).encodings[0]


@pytest.mark.parametrize("name", TEXTS)
def test_pieces_come_to_the_tokens_of_one_call(tokenizer: Any, name: str) -> None:
    expected = whole(tokenizer, TEXTS[name])

    found = LongTextTokenizer(tokenizer).tokenize(TEXTS[name])

    assert found.id_array.tolist() == expected.ids
    assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True)) == expected.offsets
    assert [None if word < 0 else word for word in found.words.tolist()] == expected.word_ids


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_shortened_text_begins_or_ends_with_the_same_tokens(tokenizer: Any, name: str, side: str) -> None:
    expected = whole(tokenizer, TEXTS[name]).ids

    shortened = whole(tokenizer, LongTextTokenizer(tokenizer).truncate_text(TEXTS[name], KEPT, side)).ids

    kept = slice(KEPT) if side == "right" else slice(-KEPT, None)
    assert shortened[kept] == expected[kept]
    assert (len(shortened) > KEPT) is (len(expected) > KEPT)


@pytest.mark.parametrize("name", ["English", "punctuation", "lines of base64"])
def test_no_more_than_a_piece_is_tokenized_at_once(tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, lengths = LongTextTokenizer(tokenizer), []
    read = texts.tokenize_at_once

    def counted(text: str, before: int = 0) -> Any:
        lengths.append(len(text))
        return read(text, before)

    monkeypatch.setattr(LongTextTokenizer, "tokenize_at_once", lambda _self, *given: counted(*given))
    texts.tokenize(TEXTS[name])
    assert max(lengths) == PIECE

    lengths.clear()
    texts.truncate_text(TEXTS[name], KEPT)
    assert sum(lengths) < LENGTH / 2


@pytest.mark.parametrize("sizes", [(20_000, 30_000), (30_000, 20_000), (30_000, 30_000), (50_000, 20), (20, 50_000)])
@pytest.mark.parametrize("limit", [63, 64])
def test_pairs_are_cut_as_the_whole_ones(sizes: tuple[int, int], limit: int) -> None:
    tokenizer = models_made.wordpiece_tokenizer()
    pair = tuple(" ".join(RANDOM.choices(["the", "great", "product"], k=size // 5)) for size in sizes)
    expected = tokenizer(*pair, truncation=True, max_length=limit)

    shortened = LongTextTokenizer(tokenizer).truncate_pair(*pair, limit, "right")

    assert dict(tokenizer(*shortened, truncation=True, max_length=limit)) == dict(expected)
    assert sum(map(len, shortened)) < sum(sizes)


def test_tokens_are_kept_as_c_ints() -> None:
    found = LongTextTokenizer(models_made.wordpiece_tokenizer()).tokenize("the " * 10_000)

    assert found.ids.dtype == np.int32
    assert found.id_array.itemsize == 4


def test_a_tokenizer_in_plain_python_has_none(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    assert long_texts.long_text_tokenizer_for(ByT5Tokenizer()) is None
