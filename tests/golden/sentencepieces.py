"""A SentencePiece model as a file, written by hand: its format is protobuf, its trainer would need a corpus."""

import struct
from collections.abc import Sequence

# Kinds of pieces, of models, and field numbers, as sentencepiece_model.proto has them.
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
UNIGRAM, BPE = 1, 2
PIECES, TRAINER, NORMALIZER = 1, 2, 3

Piece = tuple[str, float, int]


def model(pieces: Sequence[Piece], kind: int = UNIGRAM) -> bytes:
    """The bytes of a `.model` file: pieces with their scores and kinds; spaces as in every model, no character map."""
    trainer = _number(3, kind) + _number(4, len(pieces)) + _number(40, _place(pieces, UNKNOWN))
    normalizer = _text(1, "identity") + _number(3, 1) + _number(4, 1) + _number(5, 1)
    return b"".join(_nested(PIECES, _piece(piece)) for piece in pieces) + (
        _nested(TRAINER, trainer) + _nested(NORMALIZER, normalizer)
    )


def _piece(piece: Piece) -> bytes:
    text, score, kind = piece
    return _text(1, text) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + _number(3, kind)


def _place(pieces: Sequence[Piece], kind: int) -> int:
    return next(place for place, piece in enumerate(pieces) if piece[2] == kind)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _nested(field, value.encode())


def _nested(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
