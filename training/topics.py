"""Pairs of a text and a claim with their entailment label; the words are in topics.txt.

A claim names a topic or a tone ("This example is travel."). It is entailed if the text has that topic or tone, or
contains the word itself. It is contradicted if the text has another one, and neutral if the text has none.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training import templates

LABELS: Final = ("contradiction", "neutral", "entailment")
CONTRADICTION, NEUTRAL, ENTAILMENT = range(3)

_TEXT: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")
_SECTIONS: Final = dict(part.split("]\n", 1) for part in re.split(r"^\[", _TEXT, flags=re.MULTILINE)[1:])
_HYPOTHESIS_TEMPLATES: Final = templates.parse_grammar(_SECTIONS.pop("templates"))["say"]
_SENTENCE_FRAMES: Final = templates.parse_grammar(_SECTIONS.pop("frames"))
TOPICS: Final = {name: templates.parse_grammar(section) for name, section in _SECTIONS.items()}
_TONES: Final = {
    "urgent": ("urgent", "an emergency", "important"),
    "calm": ("not urgent", "calm", "relaxed"),
    "glad": ("positive", "happy", "praise"),
    "sad": ("negative", "angry", "a complaint"),
}
SUBJECTS: Final = (*TOPICS, *_TONES)
_SUBJECT_BY_LABEL: Final = {
    label: SUBJECTS.index(subject)
    for subject, labels in (*((topic, ways["labels"]) for topic, ways in TOPICS.items()), *_TONES.items())
    for label in labels
}
_OPPOSITE_TONE: Final = {"urgent": "calm", "calm": "urgent", "glad": "sad", "sad": "glad"}
_NO_TOPIC_PROBABILITY: Final = 0.08  # share of the texts without a topic
_TONE_PROBABILITY: Final = 0.4  # share of the texts with a tone
_TWO_TOPICS_PROBABILITY: Final = 0.15


@dataclass(frozen=True, slots=True)
class Text:
    """A text, its topics, and its tone if it has one."""

    text: str
    topics: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A text, a claim, their label (an index into `LABELS`), and the subjects of both."""

    text: str
    hypothesis: str
    label: int
    topic: int = -100  # indices into `SUBJECTS`, -100 for none: the text's topic, the claim's, the text's tone
    claimed_subject: int = -100
    tone: int = -100


def topic_texts(rng: random.Random, *, held_out: bool = False) -> Iterator[Text]:
    """Yield texts without end; held-out sentences occur in no other text."""
    while True:
        topics = (
            tuple(rng.sample(list(TOPICS), 1 + (rng.random() < _TWO_TOPICS_PROBABILITY)))
            if rng.random() > _NO_TOPIC_PROBABILITY
            else ()
        )
        parts = [_draw_sentence(rng, topic, held_out) for topic in topics or ("",)]
        text, tone = ". ".join(parts), ""
        if rng.random() < _TONE_PROBABILITY:
            tone = rng.choice(list(_TONES))
            text = rng.choice(_SENTENCE_FRAMES[tone]).replace("{text}", text)
        yield Text(_roughen(text, rng), topics, tone)


def _draw_sentence(rng: random.Random, topic: str, held_out: bool) -> str:
    """Return a sentence on a topic from this side of the split, decided by its frame and topic words."""
    if not topic:
        return templates.draw_in_split(_SENTENCE_FRAMES["none"], _SENTENCE_FRAMES, rng, from_held_out=held_out)
    ways = {**_SENTENCE_FRAMES, "thing": TOPICS[topic]["things"], "deed": TOPICS[topic]["deeds"]}
    while True:
        frame = rng.choice(_SENTENCE_FRAMES[rng.choice(("thing", "deed"))])
        core = templates.expand_slots(
            frame.replace("{who}", "#").replace("{when}", "~").replace("{adj}", "%"), ways, rng
        )
        if templates.is_held_out(core, 8) == held_out:
            return templates.expand_slots(
                core.replace("#", "{who}").replace("~", "{when}").replace("%", "{adj}"), ways, rng
            )


def _roughen(text: str, rng: random.Random) -> str:
    if rng.random() < 0.4:
        text = f"{text}."
    return text[:1].upper() + text[1:] if rng.random() < 0.7 else text


def labels_for(topic: str) -> tuple[str, ...]:
    """Return the labels that name a topic."""
    return TOPICS[topic]["labels"]


def _draw_absent_label(rng: random.Random, text: Text) -> str:
    """Return a label of a topic that the text lacks; the label is no word of the text either."""
    wrong = {label for topic in text.topics for label in labels_for(topic)}
    while True:
        label = rng.choice(labels_for(rng.choice([topic for topic in TOPICS if topic not in text.topics])))
        if label not in wrong and label not in text.text.lower():
            return label


def _draw_claim(rng: random.Random, text: Text, words: tuple[str, ...]) -> tuple[str, int]:
    """Return a label and whether it follows from the text."""
    draw = rng.random()
    if text.tone and draw < 0.5:
        tone = rng.choice((text.tone, _OPPOSITE_TONE[text.tone]))
        return rng.choice(_TONES[tone]), ENTAILMENT if tone == text.tone else CONTRADICTION
    if not text.tone and draw < 0.04:
        return rng.choice(_TONES[rng.choice(list(_TONES))]), NEUTRAL
    if draw > 0.9:  # any word may be a label: it follows if and only if the text contains it
        own = [word for word in re.findall(r"[a-z]{5,}", text.text.lower()) if word in words]
        if own and draw > 0.94:
            return rng.choice(own), ENTAILMENT
    if text.topics and rng.random() < 0.48:
        return rng.choice(labels_for(rng.choice(text.topics))), ENTAILMENT
    return _draw_absent_label(rng, text), CONTRADICTION if text.topics else NEUTRAL


_TOPIC_WORDS: Final = tuple(
    sorted({word for topic in TOPICS.values() for thing in topic["things"] for word in thing.split() if len(word) > 4})
)


def stream_claims(seed: int, *, held_out: bool = False) -> Iterator[Claim]:
    """Yield texts, each with a claim, without end."""
    rng = random.Random(f"{seed}/{held_out}")
    for text in topic_texts(rng, held_out=held_out):
        label, follows = _draw_claim(rng, text, _TOPIC_WORDS)
        topic = SUBJECTS.index(text.topics[0]) if len(text.topics) == 1 else -100
        hypothesis = rng.choice(_HYPOTHESIS_TEMPLATES).replace("{label}", label)
        tone = SUBJECTS.index(text.tone) if text.tone else -100
        yield Claim(text.text, hypothesis, follows, topic, _SUBJECT_BY_LABEL.get(label, -100), tone)
