"""Generated little stories, other short texts and chats: what the sample text-generation model learns from.

The grammar is in stories.txt. The hero of a story is a girl or a boy, and so is an animal with a name.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.grammar import Writer, bucketed, ways_in

_WAYS: Final = ways_in(Path(__file__).with_suffix(".txt"))
_HEROES: Final = {
    "girl": {"boy": "girl", "he": "she", "his": "her", "him": "her"},
    "boy": {"boy": "boy", "he": "he", "his": "his", "him": "him"},
}
_MARK: Final = re.compile(r"<(\w+)>")
_START: Final = re.compile(r"(?:^|[.!?] )[a-z]")
_SYSTEMS: Final = ("You are a helpful assistant.", "You are a friendly chatbot.", "You tell stories.")
_CHATS: Final = 0.3  # share of texts that are chats


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages in the form that chat templates take; the last one is the assistant's."""

    messages: tuple[dict[str, str], ...]


def texts(seed: int, count: int, *, held_out: bool = False) -> Iterator[str | Chat]:
    """Yield `count` texts and chats; held-out ones are none of those learned."""
    rng = random.Random(f"{seed}/{held_out}")
    for _ in range(count):
        drawn = _draw(rng)
        while bucketed(str(drawn)) != held_out:
            drawn = _draw(rng)
        yield drawn


def _draw(rng: random.Random) -> str | Chat:
    if rng.random() < _CHATS:
        return _chat(rng)
    while True:
        text = _written(rng, _kind(rng, "text."))
        sentences = text.split(". ")
        if len(set(sentences)) == len(sentences):  # nothing is said twice
            return text


def _kind(rng: random.Random, start: str) -> str:
    keys = [key for key in _WAYS if key.startswith(start)]
    return rng.choices(keys, [int(key.rpartition(".")[2]) for key in keys])[0]


def _written(rng: random.Random, key: str) -> str:
    """Write one text with one hero; sentences begin with a capital, whatever word they begin with."""
    sex = rng.choice(tuple(_HEROES))
    words = {**_HEROES[sex], "name": rng.choice(_WAYS[sex])}
    text = Writer(_WAYS, rng).write(key)
    told = _MARK.sub(lambda mark: _in_case(mark[1], words[mark[1].lower()]), text)
    return _START.sub(lambda start: start[0].upper(), told)


def _in_case(mark: str, word: str) -> str:
    return word.capitalize() if mark[0].isupper() else word


def _chat(rng: random.Random) -> Chat:
    turns = [_written(rng, _kind(rng, "chat.")).split(" => ") for _ in range(rng.choice((1, 1, 1, 2)))]
    system = [{"role": "system", "content": rng.choice(_SYSTEMS)}] if rng.random() < 0.2 else []
    return Chat((*system, *(message for asked, said in turns for message in _turn(asked, said))))


def _turn(asked: str, said: str) -> tuple[dict[str, str], dict[str, str]]:
    return {"role": "user", "content": asked}, {"role": "assistant", "content": said}
