"""Sentences in English and German, written side by side by a grammar: what the sample translation model learns from.

Words and patterns are in english_german.txt, which says how to read them; the endings are `training.german`'s.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training import german
from training.grammar import Grammar, GrammarExpander, is_held_out, random_word, read_grammar

_FOLDER: Final = Path(__file__).parent
_GRAMMAR: Final = read_grammar(_FOLDER / "english_german.txt")
_NAME_GRAMMAR: Final = read_grammar(_FOLDER / "names.txt")
_RANDOM_NAME_PROBABILITY: Final = 0.25  # share
_SLOT: Final = re.compile(r"\{([^{} ]+) ?([^{}]*)\}")
_ARTICLE_BEFORE_VOWEL: Final = re.compile(r"\b([Aa]) (?=[aeio])")
# What follows the subject, in the order I, you, he, we: English with he's form last where only that one differs.
_ENGLISH_VERBS: Final = {
    "be": ("am", "are", "is", "are"),
    "do": ("do", "do", "does", "do"),
    "have": ("have", "have", "has", "have"),
    "want": ("want", "want", "wants", "want"),
    "go": ("go", "go", "goes", "go"),
    "live": ("live", "live", "lives", "live"),
    "speak": ("speak", "speak", "speaks", "speak"),
}
_GERMAN_VERBS: Final = {
    "sein": ("bin", "bist", "ist", "sind"),
    "haben": ("habe", "hast", "hat", "haben"),
    "werden": ("werde", "wirst", "wird", "werden"),
    "koennen": ("kann", "kannst", "kann", "können"),
    "muessen": ("muss", "musst", "muss", "müssen"),
    "moechten": ("möchte", "möchtest", "möchte", "möchten"),
    "gehen": ("gehe", "gehst", "geht", "gehen"),
    "leben": ("lebe", "lebst", "lebt", "leben"),
    "lesen": ("lese", "liest", "liest", "lesen"),
    "kommen": ("komme", "kommst", "kommt", "kommen"),
    "sprechen": ("spreche", "sprichst", "spricht", "sprechen"),
}
_SUBJECTS: Final = (
    ("I", "ich", 0),
    ("you", "du", 1),
    ("he", "er", 2),
    ("she", "sie", 2),
    ("we", "wir", 3),
    ("they", "sie", 3),
)
_CONTRACTIONS: Final = {
    "I am": "I'm",
    "you are": "you're",
    "You are": "You're",
    "he is": "he's",
    "He is": "He's",
    "She is": "She's",
    "We are": "We're",
    "They are": "They're",
    "It is": "It's",
    "do not": "don't",
    "does not": "doesn't",
    "is not": "isn't",
    "What is": "What's",
    "That is": "That's",
    "I will": "I'll",
    "Where is": "Where's",
}
_CONTRACTIBLE: Final = re.compile(rf"\b({'|'.join(_CONTRACTIONS)})\b")


@dataclass(frozen=True, slots=True)
class LexiconEntry:
    """A word in both languages, still with the forms that its line lists."""

    english: str
    german: str


@dataclass(frozen=True, slots=True)
class SentencePattern:
    """A sentence with slots in both languages."""

    english: str
    german: str


def _parse_entries(grammar: Grammar, kind: str) -> dict[str, tuple[LexiconEntry, ...]]:
    found = {key.split(".")[1]: lines for key, lines in grammar.items() if key.startswith(f"{kind}.")}
    return {group: tuple(LexiconEntry(*line.split(" = ")) for line in lines) for group, lines in found.items()}


_NOUNS: Final = _parse_entries(_GRAMMAR, "noun")
_ADJECTIVES: Final = _parse_entries(_GRAMMAR, "adj")
_VERBS: Final = {f"v{group}": entries for group, entries in _parse_entries(_GRAMMAR, "verb").items()}
_WORDS: Final = _parse_entries(_GRAMMAR, "word")
_LEXICON: Final = _NOUNS | _ADJECTIVES | _VERBS | _WORDS
_GROUPS: Final = {key: entries for key, entries in _GRAMMAR.items() if key.startswith("say.")}
_WEIGHTS: Final = tuple(int(key.rpartition(".")[2]) for key in _GROUPS)
_PATTERNS: Final = tuple(tuple(SentencePattern(*line.split(" = ")) for line in lines) for lines in _GROUPS.values())


def sentence_pairs(seed: int, count: int, *, held_out: bool = False) -> Iterator[tuple[str, str]]:
    """Yield `count` pairs; a held-out one is a single sentence with slots, and none of those learned is the same."""
    rng = random.Random(f"{seed}/{held_out}")
    for _ in range(count):
        sentences = [_draw_pair(rng, held_out)]
        while not held_out and len(sentences) < 4 and rng.random() < 0.15:
            sentences.append(_draw_pair(rng, held_out))
        english, translated = (" ".join(side) for side in zip(*sentences, strict=True))
        if rng.random() < 0.1:
            english, translated = english.rstrip("."), translated.rstrip(".")
        yield english, translated


def _draw_pair(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """Draw until the English sentence is on this side of the split; set phrases are for learning only."""
    while True:
        pattern = rng.choice(rng.choices(_PATTERNS, _WEIGHTS)[0])
        fixed = "{" not in pattern.english
        english, translated = _SentencePair(rng).fill(pattern)
        if (not fixed and is_held_out(english)) == held_out:
            if rng.random() < 0.3:
                english = _CONTRACTIBLE.sub(lambda found: _CONTRACTIONS[found[0]], english)
            return english, translated


class _SentencePair:
    """One sentence in both languages: it remembers what each slot holds, and who does it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries_by_slot: dict[str, LexiconEntry] = {}
        self._subject, self._german_subject, self._person = self._draw_subject()

    def fill(self, pattern: SentencePattern) -> tuple[str, str]:
        """Return the pattern's sentence in English and in German."""
        english = _SLOT.sub(lambda slot: self._english(slot[1], slot[2]), pattern.english)
        translated = _SLOT.sub(lambda slot: self._german(slot[1], slot[2]), pattern.german)
        return _capitalize(_ARTICLE_BEFORE_VOWEL.sub(r"\1n ", english)), _capitalize(
            german.contract_prepositions(translated)
        )

    def _english(self, name: str, form: str) -> str:
        if name == "s":
            return self._subject
        if name in _ENGLISH_VERBS:
            return _ENGLISH_VERBS[name][self._person]
        forms = self._entry_for(name).english.split("/")
        if _group_of_slot(name) in _NOUNS:
            plural = forms[1] if len(forms) > 1 else f"{forms[0]}s"
            return plural if form == "pl" else forms[0]
        if _group_of_slot(name) in _VERBS:
            agreeing = 1 if self._person == 2 else 0
            return forms[{"base": 0, "they": 0, "he": 1, "past": 2, "ing": 3}.get(form, agreeing)]
        return forms[0]

    def _german(self, name: str, form: str) -> str:
        if name == "s":
            return self._german_subject
        if name in _GERMAN_VERBS:
            return _GERMAN_VERBS[name][self._person]
        if _group_of_slot(name) in _NOUNS or "+" in name:
            return self._noun_phrase(name, form)
        text = self._entry_for(name).german
        if _group_of_slot(name) in _VERBS:
            return german.parse_verb(text)[4 if form == "part" else german.PERSONS.get(form, self._person)]
        if _group_of_slot(name) in _ADJECTIVES and form:
            return text.split("/")[-1] + german.adjective_ending("e", "nom", form)
        return text.split("/")[0]

    def _noun_phrase(self, name: str, form: str) -> str:
        thing, _, adjective = name.partition("+")
        article, _, case = form.partition(" ")
        described = self._entry_for(adjective).german.split("/")[-1] if adjective else ""
        return german.parse_noun(self._entry_for(thing).german).phrase(article, case or "nom", described)

    def _entry_for(self, name: str) -> LexiconEntry:
        """Return what the slot holds, drawn anew and different from the others the first time."""
        while name not in self._entries_by_slot:
            drawn = self._draw(_group_of_slot(name))
            if drawn not in self._entries_by_slot.values():
                self._entries_by_slot[name] = drawn
        return self._entries_by_slot[name]

    def _draw(self, group: str) -> LexiconEntry:
        if group in _LEXICON and not (group == "town" and self._rng.random() < 0.5):
            return self._rng.choice(_LEXICON[group])
        name = self._draw_name("first" if group == "name" else group)
        return LexiconEntry(name, name)

    def _draw_name(self, kind: str) -> str:
        """Return a name of the kind, or letters at random: a name is to be copied, whatever its letters."""
        if self._rng.random() < _RANDOM_NAME_PROBABILITY:
            return random_word(self._rng).capitalize()
        return GrammarExpander(_NAME_GRAMMAR, self._rng).expand_key(kind)

    def _draw_subject(self) -> tuple[str, str, int]:
        """Draw the subject: a pronoun mostly, otherwise a name, "the" person or "my" relative."""
        chance = self._rng.random()
        if chance < 0.7:
            return self._rng.choice(_SUBJECTS)
        if chance < 0.85:
            name = self._draw("name").english
            return name, name, 2
        article, group = ("the", "person") if chance < 0.93 else ("my", "kin")
        drawn = self._rng.choice(_NOUNS[group])
        phrase = german.parse_noun(drawn.german).phrase(article[0].replace("t", "d"), "nom")
        return f"{article} {drawn.english.split('/')[0]}", phrase, 2


def _group_of_slot(name: str) -> str:
    return name.rstrip("23")


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
