"""A SentencePiece model as a file, written by hand: its format is protobuf, its trainer would need a corpus."""

import struct
from collections.abc import Sequence

# Kinds of pieces, of models, and field numbers, as sentencepiece_model.proto has them.
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
UNIGRAM, BPE = 1, 2
PIECES_FIELD, TRAINER_FIELD, NORMALIZER_FIELD = 1, 2, 3

Piece = tuple[str, float, int]


def build_model(pieces: Sequence[Piece], kind: int = UNIGRAM) -> bytes:
    """The bytes of a `.model` file: pieces with their scores and kinds; spaces as in every model, no character map."""
    trainer = (
        _encode_number(3, kind) + _encode_number(4, len(pieces)) + _encode_number(40, _index_of_kind(pieces, UNKNOWN))
    )
    normalizer = _encode_text(1, "identity") + _encode_number(3, 1) + _encode_number(4, 1) + _encode_number(5, 1)
    return b"".join(_encode_nested(PIECES_FIELD, _encode_piece(piece)) for piece in pieces) + (
        _encode_nested(TRAINER_FIELD, trainer) + _encode_nested(NORMALIZER_FIELD, normalizer)
    )


def _encode_piece(piece: Piece) -> bytes:
    text, score, kind = piece
    return _encode_text(1, text) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + _encode_number(3, kind)


def _index_of_kind(pieces: Sequence[Piece], kind: int) -> int:
    return next(place for place, piece in enumerate(pieces) if piece[2] == kind)


def _encode_number(field: int, value: int) -> bytes:
    return _encode_varint(field << 3) + _encode_varint(value)


def _encode_text(field: int, value: str) -> bytes:
    return _encode_nested(field, value.encode())


def _encode_nested(field: int, content: bytes) -> bytes:
    return _encode_varint(field << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
