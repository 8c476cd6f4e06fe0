"""Facts of a batch as its page shows them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.documents import to_json
from producer.batches.batch_view import BatchView
from producer.server.pages.outputs.cut_json import Unreadable, read_cut_json

MAX_SHORT = 120
MAX_FULL = 20_000


@dataclass(frozen=True, slots=True)
class Pair:
    """A name and its value as text.

    full: the whole value, if `text` is only its beginning
    """

    name: str
    text: str
    full: str | None = None


def pairs_of(document: Mapping[str, Any]) -> tuple[Pair, ...]:
    """Return the values of a document as texts, long ones cut."""
    return tuple(_pair(str(name), value) for name, value in document.items())


def first_text(input_text: str) -> str:
    """Return the first text of an input, as far as it goes, which is JSON or the beginning of JSON."""
    try:
        document = read_cut_json(input_text)
    except Unreadable:
        return input_text
    if isinstance(document, dict):
        return next((value for value in document.values() if isinstance(value, str)), input_text)
    return input_text


def device_seconds_per_1000(batch: BatchView) -> float | None:
    """Return the device time of a thousand rows, with that of the guards; None before there is any."""
    rows = batch.counts.succeeded - batch.reused + batch.counts.failed
    seconds = batch.device_seconds + batch.guard_device_seconds
    return 1000 * seconds / rows if rows and seconds else None


def _pair(name: str, value: Any) -> Pair:
    text = value if isinstance(value, str) else to_json(value)
    if len(text) <= MAX_SHORT:
        return Pair(name, text)
    return Pair(name, text[:MAX_SHORT], text[:MAX_FULL])
