"""Findings are what a guard model says about a text, and readings what one guard makes of them. Pure."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from models.guards.definition import Guard
from models.guards.reading import NOTHING_CAUGHT, Reading, Span

# Letters with case, their accents, and digits. Scripts without blanks between words have other letters (Lo).
WORD_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Mn", "Mc", "Nd"))
MAX_WIDENING = 100  # characters on either side


class Finding(NamedTuple):
    """One label that a model gave to a text or to a part of it.

    start, end: characters of the text, 0 = the label is the whole text's.
    """

    label: str
    score: float
    start: int = 0
    end: int = 0


def label_scores(output: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """The findings of a text classifier's output, with all of its labels."""
    return (Finding(item["label"], item["score"]) for item in output)


def highest_scores(found: Sequence[Finding], more: Iterable[Finding]) -> list[Finding]:
    """Return one finding for each label, with its highest score."""
    best = {finding.label: finding for finding in found}
    for finding in more:
        if finding.label not in best or finding.score > best[finding.label].score:
            best[finding.label] = finding
    return list(best.values())


def entities(output: Iterable[Mapping[str, Any]], text: str) -> Iterator[Finding]:
    """The findings of a token classifier's output for one window: entities with the highest scores of their tokens.

    They are widened to whole words, because part of a name tells the rest.
    output: each tagged token, in order.
    """
    for entity in _join_tokens(item for item in output if item["start"] is not None and item["end"] is not None):
        start, end = _without_blanks(text, entity.start, entity.end)
        if start < end:
            yield Finding(entity.label, entity.score, *widen_to_words(text, start, end))


def _join_tokens(tokens: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the runs of neighbouring tokens whose labels differ only in their prefixes; `B-` and `S-` begin a run."""
    entity: Finding | None = None
    next_index = 0
    for token in tokens:
        tag, score = token["entity"], token["score"]
        label = tag.split("-", 1)[-1]
        is_next = token["index"] == next_index and not tag.startswith(("B-", "S-"))
        next_index = token["index"] + 1
        if entity is not None and is_next and label == entity.label:
            entity = Finding(label, max(entity.score, score), entity.start, token["end"])
            continue
        if entity is not None:
            yield entity
        entity = Finding(label, score, token["start"], token["end"])
    if entity is not None:
        yield entity


def widen_to_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the range with the rest of the words that it begins and ends in."""
    first, last = max(0, start - MAX_WIDENING), min(len(text), end + MAX_WIDENING)
    if _is_word(text[start]):
        while start > first and _is_word(text[start - 1]):
            start -= 1
    if _is_word(text[end - 1]):
        while end < last and _is_word(text[end]):
            end += 1
    return start, end


def label_reading(guard: Guard, found: Sequence[Finding]) -> Reading:
    """What a guard makes of a classifier's scores: the highest one of its labels counts."""
    counting = [finding for finding in found if finding.label in guard.labels]
    if not counting:
        return NOTHING_CAUGHT
    best = max(counting, key=lambda finding: finding.score)
    return Reading(best.score >= guard.least_score, best.score, best.label)


def spans_reading(guard: Guard, found: Sequence[Finding]) -> Reading:
    """What a guard makes of a tagger's entities: those of its labels with a sufficient score are its spans."""
    counting = [finding for finding in found if not guard.labels or finding.label in guard.labels]
    if not counting:
        return NOTHING_CAUGHT
    best = max(counting, key=lambda finding: finding.score)
    caught = sorted({finding[2:] + finding[:1] for finding in counting if finding.score >= guard.least_score})
    spans = tuple(Span(start, end, label) for start, end, label in caught)
    return Reading(bool(spans), best.score, best.label, spans)


def _without_blanks(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the range without blanks at its ends, which some tokenizers count to the word behind them."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _is_word(character: str) -> bool:
    return unicodedata.category(character) in WORD_CATEGORIES
