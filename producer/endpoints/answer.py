"""An answer is what a response is made of: one succeeded result, with what computed it."""

from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from models import vectors


class Answer(NamedTuple):
    """The output of one job.

    id: of the request, unique among all batches
    created_at: when it was answered, in seconds since 1970
    pipeline: its name, which requests give as the model
    fingerprint: the model and its revision
    output_json: the output as JSON; None for a vector
    vector: see `models/vectors.py`
    parameters: those of the batch
    options: how the response is written, see `Endpoint`
    input_tokens, output_tokens, finish_reason: as in `ResultRow`
    """

    id: str
    created_at: int
    pipeline: str
    fingerprint: str
    output_json: str | None
    vector: bytes | None
    parameters: Mapping[str, Any]
    options: Mapping[str, Any]
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None

    @property
    def output_text(self) -> str:
        """The output as JSON, also of a vector."""
        return vectors.vector_json(self.vector) if self.vector is not None else self.output_json or "null"


quote = encode_basestring  # a text as JSON, of which a generic encoder takes several times as long
