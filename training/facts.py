"""Short passages of facts with questions about them; the wordings are in facts.txt.

A passage uses few kinds of fact and repeats its people, so that the question's kind or name alone does not give the
answer.
"""

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training import templates
from training.entity_names import EntityNames
from training.templates import Passage, Span

_TEXT: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")
_INNER_SLOT: Final = re.compile(r"\{([a-z]+)\}")
_PRONOUNS: Final = ("He", "She")
_SAME_PERSON_PROBABILITY: Final = 0.45  # share of the facts about a person already mentioned
_MAX_TRIES: Final = 100
_FIRST_NAME_ONLY_PROBABILITY: Final = 0.25  # share of the questions that use only the first name


@dataclass(frozen=True, slots=True)
class FactKind:
    """A kind of fact: its wordings, and the questions that each slot answers."""

    name: str
    statements: tuple[str, ...]
    questions_by_slot: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the position of its answer in the passage; no answer if the passage has none."""

    text: str
    answer: Span | None


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as worded, its names, and the words in its other slots."""

    kind: FactKind
    template: str
    words: Mapping[str, str]
    names: Mapping[str, str]

    @property
    def passage(self) -> Passage:
        """The fact as a sentence."""
        return templates.fill_open_slots(f"{self.template}.", self.names)

    def question_templates(self) -> list[tuple[str, str]]:
        """Return every question that the sentence answers, as a skeleton, with the slot of the answer."""
        told = {slot for slot in templates.open_slots(self.template) if self.names[slot] not in _PRONOUNS}
        pairs = [
            (_fill_words(ask, self.words), slot) for slot, asks in self.kind.questions_by_slot.items() for ask in asks
        ]
        return [
            (ask, slot)
            for ask, slot in pairs
            if slot in told and set(templates.open_slots(ask)) <= self.names.keys() - {slot}
        ]


def _parse_kinds(sections: list[str]) -> tuple[FactKind, ...]:
    kinds = []
    for section in sections:
        name, _, body = section.partition("]\n")
        lines = templates.parse_grammar(body)
        kinds.append(FactKind(name, lines.pop("say"), {key.rstrip("?"): asks for key, asks in lines.items()}))
    return tuple(kinds)


_SECTIONS: Final = re.split(r"^\[", _TEXT, flags=re.MULTILINE)[1:]
FACT_KINDS: Final = _parse_kinds(_SECTIONS[:-1])
_WORD_GRAMMAR: Final = templates.parse_grammar(_SECTIONS[-1].partition("]\n")[2])


def _fill_words(pattern: str, words: Mapping[str, str]) -> str:
    return _INNER_SLOT.sub(lambda slot: words[slot[1]], pattern)


class FactNarrator:
    """Writes the facts of one passage."""

    def __init__(self, rng: random.Random, *, held_out: bool) -> None:
        self._rng = rng
        self._held_out = held_out
        self._entity_names = EntityNames(rng, held_out=held_out)
        self._kinds_by_person: dict[str, set[str]] = {}  # people mentioned so far, with the kinds of their facts
        self._last_person = ""

    def draw_fact(self, kind: FactKind, *, remember: bool = True) -> Fact:
        """Return a fact of a kind; with `remember` off, it does not affect later ones."""
        skeleton, words = self._draw_template(kind)
        names = {slot: self._entity_names.draw(slot) for slot in templates.open_slots(skeleton)}
        known = sorted(name for name, kinds in self._kinds_by_person.items() if kind.name not in kinds)
        if (
            "PER" in names
            and not kind.name.startswith("my")
            and known
            and self._rng.random() < _SAME_PERSON_PROBABILITY
        ):
            names["PER"] = self._last_person if self._last_person in known else self._rng.choice(known)
        if remember and "PER" in names:
            self._remember_person(names, kind, skeleton)
        return Fact(kind, skeleton, words, names)

    def _draw_template(self, kind: FactKind) -> tuple[str, dict[str, str]]:
        """Draw a wording from this side of the split; if few wordings are all on one side, only names differ."""
        for _ in range(_MAX_TRIES):
            words = {slot: self._rng.choice(ways) for slot, ways in _WORD_GRAMMAR.items()}
            skeleton = _fill_words(self._rng.choice(kind.statements), words)
            if templates.is_held_out(skeleton, 8) == self._held_out:
                break
        return skeleton, words

    def _remember_person(self, names: dict[str, str], kind: FactKind, template: str) -> None:
        """Record a person; a second sentence about the same person may use "she"."""
        person = names["PER"]
        if person == self._last_person and template.startswith("{PER} ") and self._rng.random() < 0.5:
            names["PER"] = self._rng.choice(_PRONOUNS)
        if not kind.name.startswith("my"):
            self._kinds_by_person.setdefault(person, set()).add(kind.name)
            self._last_person = person

    def phrase_question(self, template: str, names: Mapping[str, str]) -> str:
        """Return a question with its names, spelled as people type it."""
        if self._rng.random() < _FIRST_NAME_ONLY_PROBABILITY:
            names = {slot: name.split()[0] if slot.startswith("PER") else name for slot, name in names.items()}
        text = templates.fill_open_slots(template, names).text
        if self._rng.random() < 0.1:
            text = text[:1].lower() + text[1:]
        return text if self._rng.random() < 0.1 else f"{text}?"

    def build_questions(self, facts: list[Fact], passages: list[Passage]) -> list[Question]:
        """Return one question for each fact that has any, without those that several facts would answer."""
        pairs = [
            (fact, index, ask, slot) for index, fact in enumerate(facts) for ask, slot in fact.question_templates()
        ]
        often = Counter(templates.fill_open_slots(ask, fact.names).text for fact, _, ask, _ in pairs)
        starts = [0]
        for passage in passages:
            starts.append(starts[-1] + len(passage.text) + 1)
        chosen: dict[int, Question] = {}
        for fact, index, ask, slot in self._rng.sample(pairs, len(pairs)):
            if index in chosen or often[templates.fill_open_slots(ask, fact.names).text] > 1 or _has_pronoun(ask, fact):
                continue
            span = next(span for span in passages[index].spans if span.slot == slot)
            chosen[index] = Question(self.phrase_question(ask, fact.names), span.shift(starts[index]))
        return list(chosen.values())


def _has_pronoun(template: str, fact: Fact) -> bool:
    return any(fact.names[slot] in _PRONOUNS for slot in templates.open_slots(template))


def passage_with_questions(rng: random.Random, length: int, *, held_out: bool) -> tuple[Passage, list[Question]]:
    """Return a passage of `length` facts, and questions; about one in five has no answer in it."""
    teller = FactNarrator(rng, held_out=held_out)
    kinds = rng.sample(FACT_KINDS, min(len(FACT_KINDS), 1 + length // 2 + rng.randint(0, 1)))
    facts = [teller.draw_fact(rng.choice(kinds)) for _ in range(length)]
    passages = [fact.passage for fact in facts]
    questions = teller.build_questions(facts, passages)
    answered = {
        ask
        for fact in facts
        for ask in (templates.fill_open_slots(ask, fact.names).text for ask, _ in fact.question_templates())
    }
    for _ in range(1 + len(questions) // 4):
        other = teller.draw_fact(rng.choice(kinds if rng.random() < 0.6 else FACT_KINDS), remember=False)
        asks = [
            ask
            for ask, _ in other.question_templates()
            if templates.fill_open_slots(ask, other.names).text not in answered
        ]
        if asks and rng.random() < 0.8:
            questions.append(Question(teller.phrase_question(rng.choice(asks), other.names), None))
    return templates.join_passages(passages), questions
