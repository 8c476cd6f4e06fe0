"""Decoding of the same jobs together and alone, as text, to compare the two."""

from collections.abc import Sequence
from typing import Any

from models.errors import JobError
from worker.adapters.interface import DecodableJob
from worker.adapters.output_json import to_valid_json


def decode_alone(adapter: Any, jobs: Sequence[DecodableJob]) -> list[str]:
    """Return each job's JSON, or its error, from `decode`."""
    return [_alone(adapter, job) for job in jobs]


def decode_together(adapter: Any, jobs: Sequence[DecodableJob]) -> list[str]:
    """Return the same from one call of `decode_many`."""
    return [output if isinstance(output, str) else repr(output) for output in adapter.decode_many(jobs)]


def _alone(adapter: Any, job: DecodableJob) -> str:
    try:
        return to_valid_json(adapter.decode(*job))
    except JobError as error:
        return repr(error)
