"""Named entities of many texts at once, as transformers' pipeline finds them in one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from json.encoder import encode_basestring as to_json_string
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from worker.adapters.outputs import entity_spans
from worker.adapters.outputs.entity_spans import Booleans, Floats, Integers, Spans

IGNORED_LABELS = frozenset(("O",))
CACHED_TOKENS = 32_768
MAX_CACHED_CHARACTERS = 64  # of a token; an unknown one stands for a word of any length


@dataclass(frozen=True, slots=True)
class TaggedTexts:
    """The tokens of several texts, one text after another, without special tokens.

    texts: the characters of each.
    edges: where each text's tokens begin, and the end of the last.
    logits: `(tokens, labels)`.
    starts, ends: the characters where each token begins and ends in its text, None = the tokenizer can't tell.
    first_index: the number of special tokens before each text.
    """

    texts: Sequence[str]
    edges: Integers
    ids: Integers
    logits: Floats
    starts: Integers | None
    ends: Integers | None
    first_index: int = 0


class EntityOptions(NamedTuple):
    """The parameters of a batch.

    strategy: `aggregation_strategy` of the pipeline.
    ignored_labels: leave out entities with these; without `B-` and `I-` if the strategy joins tokens.
    """

    strategy: str = "none"
    ignored_labels: frozenset[str] = IGNORED_LABELS

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "EntityOptions":
        """Read the parameters of a batch; null stands for the default, as in the pipeline."""
        ignored_labels = parameters.get("ignore_labels")
        return EntityOptions(
            parameters.get("aggregation_strategy") or "none",
            IGNORED_LABELS if ignored_labels is None else frozenset(ignored_labels),
        )

    @property
    def joins_tokens(self) -> bool:
        """Whether entities are runs of tokens."""
        return self.strategy != "none"


class Entity(NamedTuple):
    """A token or a run of tokens with a label.

    label, word: JSON.
    place: the index of the first token in the row.
    start, end: in characters, "null" = unknown.
    """

    label: str
    score: float
    place: int
    word: str
    start: int | str
    end: int | str


class EntityFinder:
    """Finds the entities of one model. Not thread-safe."""

    def __init__(self, tokenizer: Any, labels: Sequence[str]) -> None:
        """labels: the model's, by number."""
        self._tags = entity_spans.tags_of(labels)
        self._names = {False: list(labels), True: [label.split("-", 1)[-1] for label in labels]}
        self._unknown_id: int | None = tokenizer.unk_token_id
        self._knows_words = _knows_words(tokenizer)
        self._convert = _string_converter(tokenizer)
        self._convert_single = lru_cache(CACHED_TOKENS)(lambda token: self._convert([token]))
        self._token_string = lru_cache(CACHED_TOKENS)(tokenizer.convert_ids_to_tokens)

    @property
    def label_count(self) -> int:
        """The number of labels."""
        return len(self._tags.numbers)

    def find(self, batch: TaggedTexts, options: EntityOptions) -> list[list[Entity]]:
        """The entities of each text, in order."""
        names = self._names[options.joins_tokens]
        kept_labels = np.array([name not in options.ignored_labels for name in names], np.bool_)
        scores = entity_spans.softmax(batch.logits)
        tokens = self._tokens(batch)
        if options.strategy in ("none", "simple"):
            words = entity_spans.token_spans(scores)
        else:
            is_subword = self._is_subword(batch, tokens)
            words = entity_spans.word_spans(scores, is_subword, batch.edges, options.strategy)
        if options.joins_tokens:
            spans = entity_spans.merge(words, self._tags, np.searchsorted(words.starts, batch.edges), kept_labels)
        else:
            spans = words[kept_labels[words.labels]]
        return self._entities(batch, spans, words, names, self._words(tokens, spans, words, options.strategy))

    def _entities(
        self, batch: TaggedTexts, spans: Spans, words: Spans, names: Sequence[str], strings: Sequence[str]
    ) -> list[list[Entity]]:
        firsts, lasts = words.starts[spans.starts], words.stops[spans.stops - 1] - 1
        nothing = ["null"] * len(spans)
        edges = np.searchsorted(firsts, batch.edges)
        places = firsts - np.repeat(batch.edges[:-1], np.diff(edges)) + batch.first_index
        labels = [to_json_string(name) for name in names]
        entities = list(
            map(
                Entity,
                [labels[label] for label in spans.labels.tolist()],
                spans.scores.tolist(),
                places.tolist(),
                map(to_json_string, strings),
                nothing if batch.starts is None else batch.starts[firsts].tolist(),
                nothing if batch.ends is None else batch.ends[lasts].tolist(),
            )
        )
        return [entities[start:stop] for start, stop in pairwise(edges.tolist())]

    def _tokens(self, batch: TaggedTexts) -> list[str]:
        """The string of each token; an unknown token's is its part of the text."""
        tokens: list[str] = list(map(self._token_string, batch.ids.tolist()))
        if batch.starts is not None and batch.ends is not None and self._unknown_id is not None:
            unknown = np.flatnonzero(batch.ids == self._unknown_id)
            texts = np.searchsorted(batch.edges, unknown, side="right") - 1
            for place, text in zip(unknown.tolist(), texts.tolist(), strict=True):
                tokens[place] = batch.texts[text][batch.starts[place] : batch.ends[place]]
        return tokens

    def _is_subword(self, batch: TaggedTexts, tokens: Sequence[str]) -> Booleans:
        """Whether each token continues a word. Tokenizers that know no words have it guessed from blanks."""
        assert batch.starts is not None
        assert batch.ends is not None
        if self._knows_words:
            lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
            is_subword = lengths != batch.ends - batch.starts
        else:
            starts = batch.starts.tolist()
            is_subword = np.array(
                [
                    start > 0 and " " not in text[start - 1 : start + 1]
                    for text, (first, stop) in zip(batch.texts, pairwise(batch.edges.tolist()), strict=True)
                    for start in starts[first:stop]
                ],
                np.bool_,
            )
        return is_subword if self._unknown_id is None else is_subword & (batch.ids != self._unknown_id)

    def _words(self, tokens: Sequence[str], spans: Spans, words: Spans, strategy: str) -> list[str]:
        """The string of each span: of its tokens, or of its words where the strategy knows words."""
        starts, stops = spans.starts.tolist(), spans.stops.tolist()
        if strategy == "none":
            return [tokens[start] for start in starts]
        if strategy == "simple":
            return [self._join(tokens[start:stop]) for start, stop in zip(starts, stops, strict=True)]
        word_starts, word_stops = words.starts.tolist(), words.stops.tolist()
        return [
            self._join([self._join(tokens[word_starts[word] : word_stops[word]]) for word in range(start, stop)])
            for start, stop in zip(starts, stops, strict=True)
        ]

    def _join(self, tokens: Sequence[str]) -> str:
        if len(tokens) == 1 and len(tokens[0]) <= MAX_CACHED_CHARACTERS:
            return self._convert_single(tokens[0])
        return self._convert(tokens)


def entities_to_json(entities: Sequence[Entity], options: EntityOptions) -> str:
    """The entities of a text as JSON, with the keys of transformers' pipeline in its order."""
    if options.joins_tokens:
        objects = [
            f'{{"entity_group":{label},"score":{score!r},"word":{word},"start":{start},"end":{end}}}'
            for label, score, _place, word, start, end in entities
        ]
    else:
        objects = [
            f'{{"entity":{label},"score":{score!r},"index":{place},"word":{word},"start":{start},"end":{end}}}'
            for label, score, place, word, start, end in entities
        ]
    return f"[{','.join(objects)}]"


def label_names(id2label: Mapping[int, Any]) -> list[str] | None:
    """A model's labels by number, None = some are not text, or numbers are missing."""
    names = [name for number in range(len(id2label)) if isinstance(name := id2label.get(number), str)]
    return names if len(names) == len(id2label) else None


def _knows_words(tokenizer: Any) -> bool:
    """Whether tokens that continue a word are marked, as transformers' pipeline decides it."""
    backend = getattr(tokenizer, "_tokenizer", None)
    return bool(backend and getattr(backend.model, "continuing_subword_prefix", None))


def _string_converter(tokenizer: Any) -> Callable[[Sequence[str]], str]:
    """The tokenizer's `convert_tokens_to_string`, without the look-ups that it makes in each call."""
    method: Callable[[Sequence[str]], str] = tokenizer.convert_tokens_to_string
    is_inherited = getattr(method, "__func__", None) is PreTrainedTokenizerFast.convert_tokens_to_string
    decoder = tokenizer.backend_tokenizer.decoder if is_inherited else None
    return method if decoder is None else decoder.decode
