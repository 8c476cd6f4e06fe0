"""Inputs for the checks, all made of the task's example: variants of its texts, and inputs that no model can answer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS
from models.tasks.spec import TaskSpec

MAX_VARIANTS = 16
LONG_TEXT_WORDS, VERY_LONG_TEXT_CHARACTERS = 120, 100_000

Change = Callable[[str], str]

CHANGES: tuple[Change, ...] = (
    lambda text: text,
    lambda text: text.partition(" ")[0],
    lambda text: " ".join(reversed(text.split())),
    lambda text: f"{text} {text} {text}",
    lambda text: f"{text} Ünïcödé 世界 🙂",
    lambda text: text.upper(),
    lambda text: " ".join((text.split() * LONG_TEXT_WORDS)[:LONG_TEXT_WORDS]),
    lambda text: f"{text}?",
)
# Texts that many adapters do not expect, though they may be answered.
ODD_CHANGES: tuple[Change, ...] = (
    lambda text: "   ",
    lambda text: "…",
    lambda text: "\x01\x1b[31m",
    lambda text: "א\u202eب\ufeff",
    lambda text: "x" * 5_000,
    lambda text: (text * VERY_LONG_TEXT_CHARACTERS)[:VERY_LONG_TEXT_CHARACTERS],
)


@dataclass(frozen=True, slots=True)
class BadInput:
    """An input as a submitter might give it, with one fault.

    name: what is wrong with it, for the report.
    may_be_taken: whether a task may take it, and then answers it or refuses it by a JobError.
    """

    name: str
    raw: Any
    may_be_taken: bool = False


def make_variants(spec: TaskSpec, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return stored inputs of different lengths and words, the example first. Raises JobError if that is refused."""
    example = spec.normalise(spec.example_input, parameters)
    found = [example]
    for changed in _changed_inputs(example, CHANGES):
        stored = normalise_or_none(spec, changed, parameters)
        if stored is not None and stored not in found and len(found) < MAX_VARIANTS:
            found.append(stored)
    return found


def make_odd_inputs(spec: TaskSpec, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return stored inputs that few adapters expect, as far as the task takes them."""
    example = spec.normalise(spec.example_input, parameters)
    stored = (normalise_or_none(spec, changed, parameters) for changed in _changed_inputs(example, ODD_CHANGES))
    return [each for each in stored if each is not None]


def make_numbered(spec: TaskSpec, example: Mapping[str, Any], number: int, parameters: Mapping[str, Any]) -> Any:
    """Return an input that equals no other one, if the task takes it, else the example."""
    for name in text_fields(example):
        numbered = normalise_or_none(spec, {**example, name: f"{example[name]} {number}"}, parameters)
        if numbered is not None:
            return numbered
    return dict(example)


def make_bad_inputs(spec: TaskSpec, example: Mapping[str, Any]) -> Iterator[BadInput]:
    """Yield inputs with one fault each."""
    yield BadInput("null", None)
    yield BadInput("a number", 12.5)
    if any(field.required for field in spec.fields):
        yield BadInput("an empty object", {})
    for field in spec.fields:
        if field.required and field.name in example:
            yield BadInput(f"no {field.name}", {name: example[name] for name in example if name != field.name})
    for name, value in example.items():
        wrong: object = 7 if isinstance(value, list | dict) else {"a": []}
        yield BadInput(f"{name} of another type", {**example, name: wrong}, may_be_taken=True)
    for name in text_fields(example):
        yield BadInput(f"a NUL character in {name}", {**example, name: f"{example[name]}\0"})
        yield BadInput(f"half a surrogate pair in {name}", {**example, name: f"{example[name]}\ud800"})
        too_long = "x" * (MAX_TEXT_CHARACTERS + 1)
        yield BadInput(f"more than {MAX_TEXT_CHARACTERS:,} characters in {name}", {**example, name: too_long})


def text_fields(example: Mapping[str, Any]) -> list[str]:
    """The fields of an input that hold a text."""
    return [name for name, value in example.items() if isinstance(value, str)]


def normalise_or_none(spec: TaskSpec, raw: Any, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the stored form of an input; None if it is refused."""
    try:
        return spec.normalise(raw, parameters)
    except JobError:
        return None


def _changed_inputs(example: Mapping[str, Any], changes: tuple[Change, ...]) -> Iterator[dict[str, Any]]:
    """Yield the example with each change made to all texts, and then to one field at a time."""
    for change in changes:
        yield {name: _change(value, change) for name, value in example.items()}
    for name in example:
        for change in changes:
            yield {**example, name: _change(example[name], change)}


def _change(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [change(item) for item in value]
    return value
