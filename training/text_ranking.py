"""Train the sample ranking model: `python -m training.text_ranking [--out FOLDER] [--seed 0]`.

The model has BERT's shape at about a five-hundredth of its size. It reads a search and a text together, and gives one
score: whether the text has the subject of the search. Its wrong texts are mostly near misses, such as another fault of
the same thing.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from training import model_card, tickets, training_loop, wordpiece
from training.tickets import MATTERS, SUBJECTS, THINGS, Subject
from training.training_loop import Batch, Row

_TASK: Final = "text-ranking"
_MAX_POSITIONS: Final = 256
_VOCABULARY_SIZE: Final = 1_500
_MAX_PIECES: Final = 450
_VOCABULARY_TEXTS: Final = 15_000
_STEPS: Final = 2_000
_SEARCHES: Final = 16  # a step
_CANDIDATES: Final = 6  # texts for each search, of which the first one is right
_LEARNING_RATE: Final = 2e-3
_HELD_OUT_SEARCHES: Final = 500
_HELD_OUT_CANDIDATES: Final = 10
_HINT_LAYER: Final = 1
_IGNORED: Final = -100

Candidates = tuple[str, Subject, list[tuple[str, Subject]]]  # a search with its subject, and texts with theirs


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained model: 3 layers, 4 heads, 64 dimensions."""
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=_MAX_POSITIONS,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            initializer_range=0.05,
            hidden_dropout_prob=0.05,
            attention_probs_dropout_prob=0.0,
            num_labels=1,
        )
    )
    training_loop.init_sinusoidal_positions(model.bert.embeddings.position_embeddings, 0.05)
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        training_loop.init_mimetic_attention(attention.query, attention.key, 0.1)
    return model


def stream_candidates(seed: int, count: int, *, held_out: bool = False) -> Iterator[Candidates]:
    """Yield searches with `count` texts each, without end; only the first text has the subject of the search."""
    rng = random.Random(f"{seed}/{held_out}")
    while True:
        subject = tickets.draw_subject(rng)
        others = [_draw_other(rng, subject) for _ in range(count - 1)]
        texts = [(tickets.draw_passage(rng, about, held_out=held_out), about) for about in (subject, *others)]
        yield tickets.draw_query(rng, subject, held_out=held_out), subject, texts


def _draw_other(rng: random.Random, subject: Subject) -> Subject:
    """Return another subject, mostly one with the same thing or the same matter."""
    near = [
        other
        for other in SUBJECTS
        if other != subject and subject.thing and (other.thing == subject.thing or other.matter == subject.matter)
    ]
    if near and rng.random() < 0.7:
        return rng.choice(near)
    while (other := tickets.draw_subject(rng)) == subject:
        pass
    return other


def tokenize_candidates(tokenizer: Any, candidates: Sequence[Candidates]) -> Batch:
    """Tokenize each search with each of its texts; hints are the thing and the matter that a token belongs to."""
    rows: list[Row] = []
    for search, subject, texts in candidates:
        for text, about in texts:
            encoded = tokenizer(
                search, text, truncation="only_second", max_length=_MAX_POSITIONS, return_token_type_ids=True
            )
            parts = encoded["token_type_ids"]
            rows.append(
                {
                    "input_ids": encoded["input_ids"],
                    "token_type_ids": parts,
                    "things": [_thing_index(about if part else subject) for part in parts],
                    "matters": [MATTERS.index((about if part else subject).matter) for part in parts],
                }
            )
    return training_loop.pad_rows(rows)


def _thing_index(subject: Subject) -> int:
    return THINGS.index(subject.thing) if subject.thing else len(THINGS)


def train(model: Any, batches: Iterator[Batch]) -> None:
    """Fit the model to tell the right text from the others; the layers that guess hints are removed afterwards."""
    model.things = torch.nn.Linear(model.config.hidden_size, len(THINGS) + 1)
    model.matters = torch.nn.Linear(model.config.hidden_size, len(MATTERS))
    right = torch.eye(_CANDIDATES)[0].repeat(_SEARCHES)

    def loss_of(model: Any, batch: Batch) -> torch.Tensor:
        things, matters = (
            batch.pop(key).masked_fill(batch["attention_mask"] == 0, _IGNORED) for key in ("things", "matters")
        )
        answer = model(**batch, output_hidden_states=True)
        states, scores = answer.hidden_states[_HINT_LAYER], answer.logits[:, 0]
        loss = functional.cross_entropy(scores.view(_SEARCHES, -1), torch.zeros(_SEARCHES, dtype=torch.long))
        loss = loss + functional.binary_cross_entropy_with_logits(scores, right)
        for guesses, hints in ((model.things(states), things), (model.matters(states), matters)):
            loss = loss + functional.cross_entropy(guesses.flatten(0, 1), hints.flatten(), ignore_index=_IGNORED) / 2
        return loss

    training_loop.fit(model, batches, steps=_STEPS, learning_rate=_LEARNING_RATE, loss_of=loss_of)
    del model.things, model.matters


def held_out_scores(model: Any, tokenizer: Any, seed: int) -> dict[str, float]:
    """Return how often the right text has the best score of ten, and how often sigmoid's 0.5 tells right from wrong."""
    best = correct = 0
    for candidates in islice(stream_candidates(seed, _HELD_OUT_CANDIDATES, held_out=True), _HELD_OUT_SEARCHES):
        batch = tokenize_candidates(tokenizer, [candidates])
        with torch.inference_mode():
            inputs = {key: batch[key] for key in ("input_ids", "token_type_ids", "attention_mask")}
            scores = model(**inputs).logits[:, 0]
        is_right = torch.tensor([about == candidates[1] for _, about in candidates[2]])
        best += int(is_right[scores.argmax()])
        correct += int(((scores > 0) == is_right).sum())
    return {
        "held_out_top_1_of_10": round(best / _HELD_OUT_SEARCHES, 4),
        "held_out_accuracy": round(correct / _HELD_OUT_SEARCHES / _HELD_OUT_CANDIDATES, 4),
    }


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the ranking model, save it in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    candidates = islice(stream_candidates(seed, 2), _VOCABULARY_TEXTS)
    tokenizer = wordpiece.train_tokenizer(
        (text for search, _, texts in candidates for text in (search, *(text for text, _ in texts))),
        vocabulary_size=_VOCABULARY_SIZE,
        max_pieces=_MAX_PIECES,
        max_positions=_MAX_POSITIONS,
        cased=False,
    )
    model = new_model(len(tokenizer))
    searches = stream_candidates(seed, _CANDIDATES)
    batches = iter(lambda: tokenize_candidates(tokenizer, list(islice(searches, _SEARCHES))), None)
    train(model, batches)
    scores = held_out_scores(model, tokenizer, seed)
    learned = {"train_steps": _STEPS, "held_out_searches": _HELD_OUT_SEARCHES, **scores}
    model_card.save_sample(model, tokenizer, model_card.build_card(_TASK, model, seed, **learned), folder)
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
