"""Train the sample NER model: `python -m training.ner [--out FOLDER] [--seed 0]`.

The model has DistilBERT's shape at about a three-hundredth of its size. It tags persons, places, organisations and
other names in plain sentences, and recognizes unseen names by shape and context.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from transformers import DistilBertConfig, DistilBertForTokenClassification

from training import model_card, training_loop, wordpiece
from training.sentences import NAME_KINDS, labelled_sentences
from training.templates import Passage
from training.training_loop import Row

_TASK: Final = "ner"
_MAX_POSITIONS: Final = 256
_VOCABULARY_SIZE: Final = 1_500
_MAX_PIECES: Final = 650  # few, so that invented names and well-known ones look alike
_VOCABULARY_TEXTS: Final = 20_000
_STEPS: Final = 7_000
_LEARNING_RATE: Final = 2e-3
_RANDOM_TOKEN_PROBABILITY: Final = 0.03  # share of tokens replaced at random: no single word decides alone
_HELD_OUT_TEXTS: Final = 3_000
_LABELS: Final = ("O", *(f"{place}-{kind}" for kind in NAME_KINDS for place in "BI"))

NameSpans = set[tuple[int, int, str]]  # a text's names as first token, last token, kind


def new_model(vocabulary_size: int, tags: Sequence[str] = _LABELS, dimensions: int = 64) -> Any:
    """Return an untrained model: 3 layers, 4 heads, and feed-forward layers of twice its dimensions."""
    model = DistilBertForTokenClassification(
        DistilBertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=_MAX_POSITIONS,
            dim=dimensions,
            n_layers=3,
            n_heads=4,
            hidden_dim=2 * dimensions,
            initializer_range=0.05,
            dropout=0.05,
            attention_dropout=0.0,  # drawing it would take a third of the training time
            id2label=dict(enumerate(tags)),
            label2id={label: index for index, label in enumerate(tags)},
        )
    )
    training_loop.init_sinusoidal_positions(model.distilbert.embeddings.position_embeddings, 0.1)
    return model


def tokenize_and_label(tokenizer: Any, texts: Iterable[Passage], tags: Sequence[str] = _LABELS) -> Iterator[Row]:
    """Tokenize texts and label every word piece: the first of a name B-, its others I-."""
    for passage in texts:
        encoded = tokenizer(passage.text, truncation=True, max_length=_MAX_POSITIONS, return_offsets_mapping=True)
        labels = [_label_index(passage, start, end, tags) for start, end in encoded["offset_mapping"]]
        labels[0] = labels[-1] = -100
        yield {"input_ids": encoded["input_ids"], "labels": labels}


def _label_index(passage: Passage, start: int, end: int, tags: Sequence[str]) -> int:
    for span in passage.spans:
        if span.start <= start and end <= span.end:
            return tags.index(f"{'B' if start == span.start else 'I'}-{span.slot}")
    return 0


def replace_random_tokens(
    batches: Iterator[training_loop.Batch], vocabulary_size: int
) -> Iterator[training_loop.Batch]:
    """Replace some tokens with random ones, except the special tokens, whose ids are below 5."""
    for batch in batches:
        ids = batch["input_ids"]
        strange = (torch.rand(ids.shape) < _RANDOM_TOKEN_PROBABILITY) & (ids >= 5)
        yield {**batch, "input_ids": torch.where(strange, torch.randint(5, vocabulary_size, ids.shape), ids)}


def name_spans(labels: Iterable[int], tags: Sequence[str] = _LABELS) -> NameSpans:
    """Return the names that a text's labels mark; labels of -100 are ignored."""
    names: NameSpans = set()
    first, kind = 0, ""
    marks = [tags[label] if label >= 0 else "O" for label in labels]
    for index, tag in enumerate([*marks, "O"]):
        if kind and tag != f"I-{kind}":
            names.add((first, index - 1, kind))
            kind = ""
        if tag != "O" and not kind:
            first, kind = index, tag[2:]
    return names


def span_f1(model: Any, held_out: Iterable[training_loop.Batch], tags: Sequence[str] = _LABELS) -> float:
    """Return the F1 over whole names: first token, last token and kind must all be right."""
    right = found = wanted = 0
    with torch.inference_mode():
        for batch in held_out:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            for guessed, labels in zip(logits.argmax(-1), batch["labels"], strict=True):
                guesses = name_spans(torch.where(labels < 0, 0, guessed).tolist(), tags)
                names = name_spans(labels.tolist(), tags)
                right, found, wanted = right + len(guesses & names), found + len(guesses), wanted + len(names)
    return 2 * right / max(found + wanted, 1)


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the NER model, save it in `folder` and return its held-out score."""
    torch.manual_seed(seed)
    texts = (passage.text for passage in islice(labelled_sentences(seed), _VOCABULARY_TEXTS))
    tokenizer = wordpiece.train_tokenizer(
        texts, vocabulary_size=_VOCABULARY_SIZE, max_pieces=_MAX_PIECES, max_positions=_MAX_POSITIONS
    )
    model = new_model(len(tokenizer))
    learned = training_loop.stream_batches(tokenize_and_label(tokenizer, labelled_sentences(seed)), seed)
    training_loop.fit(model, replace_random_tokens(learned, len(tokenizer)), steps=_STEPS, learning_rate=_LEARNING_RATE)
    kept = list(tokenize_and_label(tokenizer, islice(labelled_sentences(seed, held_out=True), _HELD_OUT_TEXTS)))
    scores = {"held_out_f1": round(span_f1(model, training_loop.group_by_length(kept, 64, 4_096)), 4)}
    learned_from = {"train_steps": _STEPS, "held_out_texts": len(kept)}
    model_card.save_sample(
        model, tokenizer, model_card.build_card(_TASK, model, seed, **learned_from, **scores), folder
    )
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
