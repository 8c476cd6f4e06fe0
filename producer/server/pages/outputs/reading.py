"""What an output says. Its form alone decides, because outputs of old tasks and of own tasks are shown too. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models import vectors
from producer.server.pages.outputs import entities
from producer.server.pages.outputs.cut_json import Unreadable, read_cut_json, read_json
from producer.server.pages.outputs.entities import Piece

MAX_LABELS = 20
MAX_TEXTS = 5
MAX_PAIRS = 12
SHOWN_NUMBERS = 4  # of a vector
TEXT_KEYS = ("generated_text", "summary_text", "translation_text", "text")
CONTEXT_CHARACTERS = 120  # on either side of an answer
SMALLEST_SHARE = 0.001
MAX_INTEGER = 2**63  # a greater one may not fit into a float


@dataclass(frozen=True, slots=True)
class Scored:
    """A label with its score; `share` is the score where it is from 0 to 1."""

    label: str
    score: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """An output as it is shown; the fields that its kind does not have are empty.

    kind: labels | entities | texts | answer | vector | pairs | json | empty (an empty list) | nothing
    labels: best first
    pieces: of the text that entities or an answer were found in
    texts: that the model wrote
    numbers: the first of a vector
    dimensions: how many it has
    pairs: of a flat object
    json: of any other output
    hidden: how many more labels, entities or texts there are
    is_cut: there are more than that, because only a part of the output was read
    """

    kind: str
    labels: tuple[Scored, ...] = ()
    pieces: tuple[Piece, ...] = ()
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    dimensions: int = 0
    pairs: tuple[tuple[str, str], ...] = ()
    json: str = ""
    hidden: int = 0
    is_cut: bool = False


def read_output(text: str | None, length: int | None, vector: bytes | None, document: Mapping[str, Any]) -> Reading:
    """Return an output as it is shown.

    text: its JSON, which may be cut
    length: of the whole JSON
    vector: in place of it
    document: the input
    """
    if vector is not None:
        return _read_vector(
            vectors.to_numbers(vector[: SHOWN_NUMBERS * vectors.NUMBER_BYTES]), vectors.dimensions(vector)
        )
    if text is None:
        return Reading("nothing")
    is_cut = length is not None and length > len(text)
    try:
        output = read_cut_json(text) if is_cut else read_json(text)
    except Unreadable:
        return Reading("json", json=text, is_cut=is_cut)
    return replace(_read_document(output, document) or Reading("json", json=text), is_cut=is_cut)


def _read_document(output: Any, document: Mapping[str, Any]) -> Reading | None:
    if isinstance(output, str):
        return Reading("texts", texts=(output,))
    if isinstance(output, dict):
        return _read_object(output, document)
    return _read_list(output, document) if isinstance(output, list) else None


def _read_list(output: list[Any], document: Mapping[str, Any]) -> Reading | None:
    if not output:
        return Reading("empty")
    if all(_is_number(item) for item in output):
        return _read_vector(output, len(output))
    if not all(isinstance(item, dict) for item in output):
        return None
    for read in (_read_scored_list, _read_entities, _read_texts):
        if (reading := read(output, document)) is not None:
            return reading
    return _read_object(output[0], document) if len(output) == 1 else None


def _read_object(output: Mapping[str, Any], document: Mapping[str, Any]) -> Reading | None:
    labels, scores = output.get("labels"), output.get("scores")
    if isinstance(labels, list) and isinstance(scores, list) and labels:
        return _labels([_scored(*pair) for pair in zip(labels, scores, strict=False)])
    if isinstance(output.get("label"), str) and "score" in output:
        return _labels([_scored(output["label"], output["score"])])
    if isinstance(output.get("answer"), str):
        pieces = entities.around(document.get("context"), output, CONTEXT_CHARACTERS)
        return Reading("answer", (_scored("", output.get("score")),), pieces, (output["answer"],))
    pairs = [(str(name), value) for name, value in output.items() if not isinstance(value, dict | list)]
    if not pairs or len(pairs) < len(output) or len(pairs) > MAX_PAIRS:
        return None
    return Reading("pairs", pairs=tuple((name, _write(value)) for name, value in pairs))


def _read_scored_list(output: Sequence[Mapping[str, Any]], _document: Mapping[str, Any]) -> Reading | None:
    if not all("score" in item for item in output) or "start" in output[0]:
        return None
    for key in ("label", "token_str"):
        if all(isinstance(item.get(key), str) for item in output):
            return _labels([_scored(item[key], item["score"]) for item in output])
    if all(_is_number(item.get("index")) for item in output) and "word" not in output[0]:
        return _labels([_scored(_rank_name(item), item["score"]) for item in output])
    return None


def _read_entities(output: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> Reading | None:
    if not all(isinstance(item.get("entity_group", item.get("entity")), str) for item in output):
        return None
    labels = _labels([_scored(*_entity(item)) for item in output])
    pieces = entities.highlight(document.get("text"), output)
    return Reading("entities", labels.labels, pieces, hidden=labels.hidden)


def _read_texts(output: Sequence[Mapping[str, Any]], _document: Mapping[str, Any]) -> Reading | None:
    found = [_text_of(item) for item in output]
    texts = [text for text in found if text is not None]
    if len(texts) < len(found):
        return None
    return Reading("texts", texts=tuple(texts[:MAX_TEXTS]), hidden=max(0, len(texts) - MAX_TEXTS))


def _text_of(item: Mapping[str, Any]) -> str | None:
    """The text of a generation; of a conversation the last message, which the model added."""
    value = next((item[key] for key in TEXT_KEYS if key in item), None)
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    return value if isinstance(value, str) else None


def _read_vector(numbers: Sequence[float], dimensions: int) -> Reading:
    return Reading("vector", numbers=tuple(_write(number) for number in numbers[:SHOWN_NUMBERS]), dimensions=dimensions)


def _labels(scored: Sequence[Scored]) -> Reading:
    return Reading("labels", tuple(scored[:MAX_LABELS]), hidden=max(0, len(scored) - MAX_LABELS))


def _scored(label: object, score: object) -> Scored:
    if not _is_number(score):
        return Scored(_write(label))
    value = float(score)  # type: ignore[arg-type]
    is_share = 0 <= value <= 1
    return Scored(_write(label), _write_share(value) if is_share else _write(value), value if is_share else None)


def _write_share(value: float) -> str:
    """A share with three digits; neither 0 nor 1 unless it is exactly that."""
    if 0 < value < SMALLEST_SHARE:
        return f"< {SMALLEST_SHARE}"
    return f"> {1 - SMALLEST_SHARE}" if 1 - SMALLEST_SHARE < value < 1 else f"{value:.3f}"


def _entity(item: Mapping[str, Any]) -> tuple[str, Any]:
    name = item.get("entity_group", item.get("entity"))
    return f"{_write(item.get('word'))} · {name}", item.get("score")


def _rank_name(item: Mapping[str, Any]) -> str:
    text = item.get("text")
    return f"#{item['index']}" + (f" {text}" if isinstance(text, str) else "")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MAX_INTEGER if isinstance(value, int) else math.isfinite(value)


def _write(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
