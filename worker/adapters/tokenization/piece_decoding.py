"""Decoding of rows that differ in one token, from the pieces of text that single tokens stand for.

Fill-mask repeats its text with each word, and a tokenizer would decode every repetition from the start. Four decoders
of the tokenizers library give a token's piece whatever the other tokens are, so pieces are kept and joined:

WordPiece, Metaspace: a piece of text, another one only where the token is the first of the row.
ByteLevel: bytes, which become characters after they are joined.
Replace, ByteFallback, Fuse in a sequence, as Gemma's: a piece of text, or a byte for tokens such as `<0xC3>`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

CACHED_PIECES = 65_536  # about 200 bytes each
PROBE_ROWS, PROBE_TOKENS, PROBE_VARIANTS = 8, 32, 4
BYTE_FALLBACK_DECODERS = ["Replace", "ByteFallback", "Fuse"]
BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
BYTES = {character: byte for byte, character in bytes_to_unicode().items()}

Piece = Callable[[int], bytes]


class VariantDecoder:
    """Decodes a row several times, with another token at one position each time, as `tokenizer.decode` does."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pad_ids = frozenset(() if tokenizer.pad_token_id is None else (tokenizer.pad_token_id,))
        self._joiner = _joiner_for(tokenizer)
        if self._joiner is not None and not self._is_exact():
            self._joiner = None

    @property
    def joins_pieces(self) -> bool:
        """Whether the tokenizer's decoder is one of the four; others decode each variant from the start."""
        return self._joiner is not None

    def decode(
        self, ids: Sequence[int], position: int, tokens: Sequence[int], *, skip_special_tokens: bool
    ) -> list[str]:
        """The text of the row with each of these tokens at the position, without its padding."""
        if self._joiner is None:
            return [self._decode_whole(ids, position, token, skip_special_tokens) for token in tokens]
        dropped_ids = self._pad_ids | self._joiner.special_ids if skip_special_tokens else self._pad_ids
        texts = []
        for token, row in zip(tokens, self._joiner.join(ids, position, tokens, dropped_ids), strict=True):
            try:
                texts.append(self._joiner.clean_up(row.decode()))
            except UnicodeDecodeError:  # some bytes are no character, and the tokenizer has its own way with these
                texts.append(self._decode_whole(ids, position, token, skip_special_tokens))
        return texts

    def _decode_whole(self, ids: Sequence[int], position: int, token: int, skip_special_tokens: bool) -> str:
        row = (*ids[:position], token, *ids[position + 1 :])
        kept = [token for token in row if token not in self._pad_ids]
        text: str = self._tokenizer.decode(kept, skip_special_tokens=skip_special_tokens)
        return text

    def _is_exact(self) -> bool:
        """Whether rows of tokens from the whole vocabulary have the same texts either way."""
        vocabulary = sorted(self._tokenizer.get_vocab().values())
        sample = vocabulary[:: max(1, len(vocabulary) // (PROBE_ROWS * PROBE_TOKENS))] + vocabulary[:PROBE_TOKENS]
        rows = [sample[start : start + PROBE_TOKENS] for start in range(0, len(sample), PROBE_TOKENS)]
        return all(
            self.decode(row, position, row[:PROBE_VARIANTS], skip_special_tokens=skip)
            == [self._decode_whole(row, position, token, skip) for token in row[:PROBE_VARIANTS]]
            for row in rows
            for position, skip in ((0, True), (len(row) // 2, False))
        )


class _PieceJoiner:
    """Joins the pieces of a fast tokenizer's tokens, which are UTF-8.

    special_ids: tokens that the tokenizer can skip.
    """

    def __init__(self, tokenizer: Any, first: Piece, later: Piece) -> None:
        """first, later: the piece of a token at the start of a row, and anywhere else."""
        self.special_ids = frozenset(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
        self._first = lru_cache(CACHED_PIECES)(first)
        self._later = lru_cache(CACHED_PIECES)(later)
        self._clean_up = tokenizer.clean_up_tokenization if _cleans_up(tokenizer) else None
        self._id_to_token = tokenizer.backend_tokenizer.id_to_token

    def join(
        self, ids: Sequence[int], position: int, tokens: Sequence[int], dropped_ids: frozenset[int]
    ) -> Iterator[bytes]:
        """Yield the row with each of these tokens at the position, without those that are dropped."""
        before = self._from_first_piece([token for token in ids[:position] if token not in dropped_ids])
        after = [token for token in ids[position + 1 :] if token not in dropped_ids]
        start, end = self._join_row(before), b"".join(map(self._later, after))
        for token in tokens:
            kept = [] if token in dropped_ids else [token]
            if before:
                yield b"".join((start, *map(self._later, kept), end))
            else:
                yield self._join_row(self._from_first_piece([*kept, *after]))

    def _from_first_piece(self, ids: list[int]) -> list[int]:
        """Leave out the first tokens that the vocabulary lacks: a model may choose them, and they have no piece."""
        first = next((index for index, token in enumerate(ids) if self._id_to_token(token) is not None), len(ids))
        return ids[first:] if first else ids

    def clean_up(self, text: str) -> str:
        """Change a decoded text as the tokenizer does after joining."""
        return text if self._clean_up is None else self._clean_up(text)

    def _join_row(self, ids: Sequence[int]) -> bytes:
        return b"".join((*map(self._first, ids[:1]), *map(self._later, islice(ids, 1, None))))


def _joiner_for(tokenizer: Any) -> _PieceJoiner | None:
    if not tokenizer.is_fast or not _decodes_by_rust(tokenizer) or tokenizer.backend_tokenizer.decoder is None:
        return None
    backend = tokenizer.backend_tokenizer
    decoder = json.loads(backend.decoder.__getstate__())
    kind = decoder["type"]
    if kind == "ByteLevel":
        return _PieceJoiner(tokenizer, *[lambda token: _bytes_of(backend.id_to_token(token))] * 2)
    if kind == "Sequence" and [part["type"] for part in decoder["decoders"]] == BYTE_FALLBACK_DECODERS:
        return _PieceJoiner(tokenizer, *[lambda token: _byte_or_text(backend, token)] * 2)
    if kind not in ("WordPiece", "Metaspace"):
        return None
    anchor = min(tokenizer.get_vocab().values())  # any token will do, as long as another one comes first
    anchor_length = len(_decode(backend, anchor))
    return _PieceJoiner(
        tokenizer,
        first=lambda token: _decode(backend, token).encode(),
        later=lambda token: _decode(backend, anchor, token)[anchor_length:].encode(),
    )


def _decode(backend: Any, *ids: int) -> str:
    text: str = backend.decode(ids, skip_special_tokens=False)
    return text


def _bytes_of(token: str | None) -> bytes:
    """The bytes that a token of a byte-level vocabulary stands for; an added token may stand for itself."""
    if token is None:
        return b""
    if all(character in BYTES for character in token):
        return bytes(BYTES[character] for character in token)
    return token.encode()


def _byte_or_text(backend: Any, token: int) -> bytes:
    if match := BYTE_TOKEN.fullmatch(backend.id_to_token(token) or ""):
        return bytes.fromhex(match[1])
    return _decode(backend, token).encode()


def _decodes_by_rust(tokenizer: Any) -> bool:
    """Whether the Rust part of the tokenizer decodes alone."""
    methods = type(tokenizer).decode, type(tokenizer)._decode
    return methods == (PreTrainedTokenizerBase.decode, PreTrainedTokenizerFast._decode)


def _cleans_up(tokenizer: Any) -> bool:
    """Whether `decode` removes spaces before punctuation; for BPE it must be asked for twice."""
    is_bpe = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    return tokenizer.clean_up_tokenization_spaces and (
        not is_bpe or tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
    )
