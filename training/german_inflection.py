"""German endings of articles, adjectives, nouns and verbs, from tables of a few rows each."""

import re
from dataclasses import dataclass
from typing import Final

# A noun's gender is m, f or n, with p for any plural. The rows are the endings of an article's stem in each case.
_DEFINITE_ARTICLES: Final = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
_INDEFINITE_ENDINGS: Final = {
    "nom": {"m": "", "f": "e", "n": "", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
_DEMONSTRATIVE_ENDINGS: Final = {
    "nom": {"m": "er", "f": "e", "n": "es", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "es", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
_DETERMINER_STEMS: Final = {"e": "ein", "k": "kein", "m": "mein", "y": "dein", "u": "unser"}
_GENDERS: Final = {"der": "m", "der*": "m", "die": "f", "das": "n"}
_CONTRACTIONS: Final = {"in dem": "im", "zu dem": "zum", "zu der": "zur", "bei dem": "beim", "von dem": "vom"}
_CONTRACTIBLE: Final = re.compile(rf"\b({'|'.join(_CONTRACTIONS)})\b", re.IGNORECASE)
PERSONS: Final = {"ich": 0, "du": 1, "er": 2, "inf": 3}  # "wir" and "sie" take the infinitive


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun with its gender; a weak noun (Junge, Student) has its plural form in every case but the nominative."""

    gender: str
    singular: str
    plural: str
    weak: bool

    def phrase(self, article: str, case: str, adjective: str = "") -> str:
        """Return article, adjective and noun; the article is d, t, e, k, m, y, u or - for none, the case `pl` too."""
        gender, case = ("p", "nom") if case == "pl" else (self.gender, case)
        word = self.plural if gender == "p" or (self.weak and case != "nom") else self.singular
        ending = adjective_ending(article, case, gender)
        described = f"{adjective}{ending} {word}" if adjective else word
        if article == "-":
            return described
        if article == "d":
            return f"{_DEFINITE_ARTICLES[case][gender]} {described}"
        if article == "t":
            return f"dies{_DEMONSTRATIVE_ENDINGS[case][gender]} {described}"
        return f"{_DETERMINER_STEMS[article]}{_INDEFINITE_ENDINGS[case][gender]} {described}"


def parse_noun(text: str) -> Noun:
    """Parse `der Hund/Hunde`."""
    article, _, words = text.partition(" ")
    singular, _, plural = words.partition("/")
    return Noun(_GENDERS[article], singular, plural, article.endswith("*"))


def adjective_ending(article: str, case: str, gender: str) -> str:
    """Return the adjective's ending, which shows the gender if the article does not."""
    if case == "dat" and article != "-":
        return "en"
    if gender == "p":
        return "e" if article == "-" else "en"
    if gender == "m" and case == "acc":
        return "en"
    if article in ("d", "t") or gender == "f":
        return "e"
    return {"m": "er", "n": "es"}[gender]


def parse_verb(text: str) -> tuple[str, ...]:
    """Parse `infinitive/ich/du/er/participle` and return ich, du, er, infinitive, participle."""
    infinitive, *given = text.split("/")
    given += [""] * (4 - len(given))
    stem = infinitive.removesuffix("n").removesuffix("e")
    regular = (f"{stem}e", f"{stem}st", f"{stem}t", f"ge{stem}t")
    first, second, third, participle = (form or usual for form, usual in zip(given, regular, strict=True))
    return first, second, third, infinitive, participle


def contract_prepositions(text: str) -> str:
    """Contract preposition and article, such as "in dem" to "im"."""
    return _CONTRACTIBLE.sub(lambda found: _match_case(found[0], _CONTRACTIONS[found[0].lower()]), text)


def _match_case(original: str, word: str) -> str:
    return word.capitalize() if original[0].isupper() else word
