"""What the readings of all guards of a stage mean for one job: verdicts, redacted texts, or a blocked row. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from models.guards.definition import Guard, Stage
from models.guards.reading import NOTHING_CAUGHT, Reading
from models.guards.verdict import Verdict

Model = tuple[str, str | None]  # its name and its revision


@dataclass(frozen=True, slots=True)
class Decision:
    """The guards' decision about one job.

    verdicts: one for each guard that ran, in the order of the pipeline's guards.
    texts: all texts after redaction, None = no guard redacts. A blocked input has them too, so that what a guard
        redacts is not stored because another guard blocked the row.
    blocked_by: the first verdict that fails the row.
    keep_original: whether every guard that redacted keeps the input as it was submitted. One of them is not enough,
        because what another redacts would stay.
    """

    verdicts: tuple[Verdict, ...] = ()
    texts: tuple[str, ...] | None = None
    blocked_by: Verdict | None = None
    keep_original: bool = False


def decide(
    guards: Mapping[str, Guard],
    readings: Mapping[str, Sequence[Reading]],
    texts: Sequence[str],
    models: Mapping[str, Model] | None = None,
    definitions: Mapping[str, str] | None = None,
) -> Decision:
    """Decide about one job.

    guards: of the pipeline, in order; those of the other stage and those that did not run count for nothing.
    readings: for each guard that ran, in the order in which they ran, one reading for each text.
    texts: of the job, as all guards read them.
    models: name and revision of each model guard's model.
    definitions: hash of each guard's definition.
    """
    models, definitions = models or {}, definitions or {}
    if all(reading is NOTHING_CAUGHT for found in readings.values() for reading in found):
        return _passed(
            tuple(
                [
                    (name, guard.on, models.get(name), definitions.get(name))
                    for name, guard in guards.items()
                    if name in readings
                ]
            )
        )
    verdicts = {
        name: _verdict(name, guard, readings[name], models.get(name), definitions.get(name))
        for name, guard in guards.items()
        if name in readings
    }
    redacting = [name for name, verdict in verdicts.items() if verdict.action == "redact"]
    return Decision(
        verdicts=tuple(verdicts.values()),
        texts=_redact(texts, [(guards[name], readings[name]) for name in redacting]) if redacting else None,
        blocked_by=next((verdicts[name] for name in readings if verdicts[name].action == "fail"), None),
        keep_original=bool(redacting) and all(guards[name].keep_original for name in redacting),
    )


def blocked_message(verdict: Verdict) -> str:
    """The message of a job that a guard blocked; it holds nothing of the text."""
    found = " ".join(
        ([verdict.label] if verdict.label else []) + ([] if verdict.score is None else [f"{verdict.score:.2f}"])
    )
    return f"guard {verdict.guard} blocked this {verdict.on}" + (f" ({found})" if found else "")


@lru_cache(maxsize=256)
def _passed(ran: tuple[tuple[str, Stage, Model | None, str | None], ...]) -> Decision:
    # Most rows pass, and without scores all their decisions are equal: one object serves them all.
    return Decision(verdicts=tuple(itertools.starmap(_pass_verdict, ran)))


def _pass_verdict(name: str, on: Stage, model: Model | None, definition: str | None) -> Verdict:
    model_name, revision = model or (None, None)
    return Verdict(guard=name, on=on, action="pass", model=model_name, revision=revision, definition=definition)


def _verdict(
    name: str, guard: Guard, readings: Sequence[Reading], model: Model | None, definition: str | None
) -> Verdict:
    caught = [reading for reading in readings if reading.caught]
    # max() takes the first of equals, so the verdict depends on the texts alone.
    highest = max(caught or readings, key=lambda reading: reading.score or 0.0, default=NOTHING_CAUGHT)
    model_name, revision = model or (None, None)
    return Verdict(
        guard=name,
        on=guard.on,
        action=guard.action if caught else "pass",
        score=highest.score,
        label=highest.label,
        spans=sum(len(reading.spans) for reading in caught),
        model=model_name,
        revision=revision,
        definition=definition,
    )


def _redact(texts: Sequence[str], readings: Sequence[tuple[Guard, Sequence[Reading]]]) -> tuple[str, ...]:
    return tuple(
        _redact_text(text, [(guard, found[index]) for guard, found in readings]) for index, text in enumerate(texts)
    )


def _redact_text(text: str, readings: Sequence[tuple[Guard, Reading]]) -> str:
    spans: list[tuple[int, int, str]] = []
    for guard, reading in readings:
        if reading.caught:
            spans += [(start, end, guard.replace(label)) for start, end, label in _places(text, reading)]
    return _replace_spans(text, spans) if spans else text


def _places(text: str, reading: Reading) -> list[tuple[int, int, str | None]]:
    places = [(max(span.start, 0), min(span.end, len(text)), span.label) for span in reading.spans]
    places = [place for place in places if place[0] < place[1]]
    # A guard that knows no places redacts the whole text: nothing of what it caught may stay.
    return places or [(0, len(text), reading.label)]


def _replace_spans(text: str, spans: list[tuple[int, int, str]]) -> str:
    spans.sort(key=lambda span: span[:2])  # stable: of two guards at the same place, the first one's replacement stands
    pieces, end = [], -1
    for start, span_end, replacement in spans:
        if start > end:  # neither overlaps nor touches the one before
            pieces += [text[max(end, 0) : start], replacement]
        end = max(end, span_end)
    return "".join([*pieces, text[end:]])
