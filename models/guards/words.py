"""Lists of words and phrases: whole words in any case, all in one pass over the text."""

import re
import unicodedata
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache

from models.guards.folding import IGNORE_CASE
from models.guards.reading import NOTHING_CAUGHT, Reading, Span
from models.guards.spans import Place, limit_places, merge_places, unfold_places

MAX_WORD_CHARACTERS, MAX_LIST_CHARACTERS = 200, 250_000  # of one word or phrase, and of all together
LONG_TEXT_CHARACTERS = 20_000  # a list of all tokens of a longer text takes too much memory

# Thai, Lao, Myanmar, Khmer, kana and Han are written without spaces: each character is a token.
_SCRIPTS_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
_ASCII_WORDS = "a-z0-9"
_FIRST_RARE, _FIRST_EMOJI = 0x10000, 0x1F000


class WordsRule:
    """Every whole word or phrase of a list is a span, where a letter or digit on either side makes it another word.

    Case, width and invisible characters do not count, nor does the kind of white space between the words of a phrase.
    Characters of scripts without spaces, and signs, have no borders: they are found anywhere.
    """

    def __init__(self, words: Sequence[str]) -> None:
        phrases = [split_phrase(word) for word in words]
        self._machine = _PhraseMachine(phrases)
        self._heads = frozenset(phrase[0] for phrase in phrases)
        has_signs = any(_tokens(head.isascii(), "sign").match(head) for head in self._heads)
        self._head_kinds = "word|sign" if has_signs else "word"

    def read(self, text: str) -> Reading:
        """Find all words and phrases, merged where they overlap or touch."""
        is_ascii = text.isascii()
        folded = text.lower() if is_ascii else text.translate(IGNORE_CASE)
        if not self._has_head(folded):
            return NOTHING_CAUGHT
        places: Iterator[Place] = iter(self._machine.find(folded))
        if not is_ascii:
            places = merge_places(unfold_places(places, IGNORE_CASE.origins(text)))
        spans = tuple([Span(start, end) for start, end in limit_places(places, len(text))])
        return Reading(caught=True, spans=spans) if spans else NOTHING_CAUGHT

    def _has_head(self, folded: str) -> bool:
        tokens = _tokens(folded.isascii(), self._head_kinds)
        if len(folded) <= LONG_TEXT_CHARACTERS:
            return not self._heads.isdisjoint(tokens.findall(folded))
        return any(match[0] in self._heads for match in tokens.finditer(folded))


def split_phrase(word: str) -> list[str]:
    """Split a word or phrase of a list into folded tokens; nothing if it is blank."""
    folded = word.translate(IGNORE_CASE).strip()
    return [" " if token.isspace() else token for token in _tokens(folded.isascii()).findall(folded)]


def check_words(words: Sequence[str]) -> None:
    """Refuse words that can't be found; raises ValueError with the place of the wrong one, never the word."""
    if sum(map(len, words)) > MAX_LIST_CHARACTERS:
        raise ValueError(f"words have more than {MAX_LIST_CHARACTERS:,} characters in all; make two guards of them")
    places: dict[tuple[str, ...], int] = {}
    for place, word in enumerate(words, 1):
        if len(word) > MAX_WORD_CHARACTERS:
            raise ValueError(f"words has a word with over {MAX_WORD_CHARACTERS} characters, the one at place {place}")
        phrase = tuple(split_phrase(word))
        if not phrase:
            raise ValueError(f"words has a blank word, the one at place {place}")
        if phrase in places:
            raise ValueError(
                f"words has the same word, in some case, at places {places[phrase]} and {place}; leave one out"
            )
        places[phrase] = place


class _PhraseMachine:
    """The automaton of Aho and Corasick over tokens: its time does not depend on the number of phrases."""

    def __init__(self, phrases: Sequence[Sequence[str]]) -> None:
        self._ids = {token: index for index, token in enumerate(dict.fromkeys(token for p in phrases for token in p))}
        self._next: dict[int, int] = {}  # state * number of tokens + token -> state
        self._found = array("l", [0])  # tokens of the longest phrase that ends in a state, 0 = none
        for phrase in phrases:
            self._add(phrase)
        self._fallback = array("l", bytes(self._found.itemsize * len(self._found)))
        self._link()

    def _add(self, phrase: Sequence[str]) -> None:
        state = 0
        for token in phrase:
            edge = state * len(self._ids) + self._ids[token]
            if edge not in self._next:
                self._next[edge] = len(self._found)
                self._found.append(0)
            state = self._next[edge]
        self._found[state] = len(phrase)

    def _link(self) -> None:
        edges: dict[int, list[tuple[int, int]]] = {}
        for edge, child in self._next.items():
            parent, token = divmod(edge, len(self._ids))
            edges.setdefault(parent, []).append((token, child))
        waiting = deque(child for _, child in edges.get(0, ()))
        while waiting:
            state = waiting.popleft()
            for token, child in edges.get(state, ()):
                self._fallback[child] = fallback = self._step(self._fallback[state], token)
                self._found[child] = max(self._found[child], self._found[fallback])
                waiting.append(child)

    def _step(self, state: int, token: int) -> int:
        while True:
            following = self._next.get(state * len(self._ids) + token)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = self._fallback[state]

    def find(self, folded: str) -> list[Place]:
        """All phrases, in order, as merged places of the folded text."""
        places: list[Place] = []
        starts = array("l")
        state = 0
        for match in _tokens(folded.isascii()).finditer(folded):
            token = match[0]
            starts.append(match.start())
            index = self._ids.get(" " if token.isspace() else token)
            if index is None:
                state = 0
                continue
            state = self._step(state, index)
            if self._found[state]:
                start = starts[-self._found[state]]
                while places and places[-1][1] >= start:  # ends come in order, starts do not
                    start = min(start, places.pop()[0])
                places.append((start, match.end()))
        return places


@cache
def _tokens(is_ascii: bool, kinds: str = "word|space|sign") -> re.Pattern[str]:
    words = _ASCII_WORDS if is_ascii else _word_characters()
    patterns = {"word": f"[{words}]+", "space": r"\s+", "sign": rf"[^\s{words}]"}
    return re.compile("|".join(patterns[kind] for kind in kinds.split("|")))


@cache
def _word_characters() -> str:
    """Ranges of letters, digits and marks, but of scripts without spaces; the class for words of `re` lacks marks."""
    without_spaces = re.compile(f"[{_SCRIPTS_WITHOUT_SPACES}]")
    ranges: list[list[int]] = []
    for code in range(128, _FIRST_RARE):
        character = chr(code)
        if unicodedata.category(character)[0] in "LNM" and not without_spaces.match(character):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    # Each range of rare characters is compared one by one, so all historic scripts are one range.
    ranges.append([_FIRST_RARE, _FIRST_EMOJI - 1])
    return _ASCII_WORDS + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
