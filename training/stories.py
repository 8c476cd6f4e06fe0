"""Generated stories, other short texts and chats, for training the sample text-generation model.

The grammar is in stories.txt. The hero of a story is a girl or a boy, and so is an animal with a name.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.grammar import GrammarExpander, is_held_out, read_grammar

_GRAMMAR: Final = read_grammar(Path(__file__).with_suffix(".txt"))
_HERO_WORDS: Final = {
    "girl": {"boy": "girl", "he": "she", "his": "her", "him": "her"},
    "boy": {"boy": "boy", "he": "he", "his": "his", "him": "him"},
}
_HERO_MARK: Final = re.compile(r"<(\w+)>")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?] )[a-z]")
_SYSTEM_PROMPTS: Final = ("You are a helpful assistant.", "You are a friendly chatbot.", "You tell stories.")
_CHAT_PROBABILITY: Final = 0.3  # share of texts that are chats


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages in the form that chat templates take; the last one is the assistant's."""

    messages: tuple[dict[str, str], ...]


def stories_and_chats(seed: int, count: int, *, held_out: bool = False) -> Iterator[str | Chat]:
    """Yield `count` texts and chats; held-out ones occur in no training text."""
    rng = random.Random(f"{seed}/{held_out}")
    for _ in range(count):
        drawn = _draw_text(rng)
        while is_held_out(str(drawn)) != held_out:
            drawn = _draw_text(rng)
        yield drawn


def _draw_text(rng: random.Random) -> str | Chat:
    if rng.random() < _CHAT_PROBABILITY:
        return _draw_chat(rng)
    while True:
        text = _write_text(rng, _draw_hero_kind(rng, "text."))
        sentences = text.split(". ")
        if len(set(sentences)) == len(sentences):  # no sentence is repeated
            return text


def _draw_hero_kind(rng: random.Random, start: str) -> str:
    keys = [key for key in _GRAMMAR if key.startswith(start)]
    return rng.choices(keys, [int(key.rpartition(".")[2]) for key in keys])[0]


def _write_text(rng: random.Random, key: str) -> str:
    """Write one text with one hero; every sentence starts with a capital."""
    sex = rng.choice(tuple(_HERO_WORDS))
    words = {**_HERO_WORDS[sex], "name": rng.choice(_GRAMMAR[sex])}
    text = GrammarExpander(_GRAMMAR, rng).expand_key(key)
    told = _HERO_MARK.sub(lambda mark: _match_case(mark[1], words[mark[1].lower()]), text)
    return _SENTENCE_START.sub(lambda start: start[0].upper(), told)


def _match_case(placeholder: str, word: str) -> str:
    return word.capitalize() if placeholder[0].isupper() else word


def _draw_chat(rng: random.Random) -> Chat:
    turns = [_write_text(rng, _draw_hero_kind(rng, "chat.")).split(" => ") for _ in range(rng.choice((1, 1, 1, 2)))]
    system = [{"role": "system", "content": rng.choice(_SYSTEM_PROMPTS)}] if rng.random() < 0.2 else []
    return Chat((*system, *(message for asked, said in turns for message in _chat_turn(asked, said))))


def _chat_turn(question: str, reply: str) -> tuple[dict[str, str], dict[str, str]]:
    return {"role": "user", "content": question}, {"role": "assistant", "content": reply}
