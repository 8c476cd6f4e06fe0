"""A tiny text classifier that learns from the sentences hidden in texts: the model of two sample guards.

The model has DistilBERT's shape at about a five-hundredth of its size. While it learns, it also guesses for each token
which kind of sentence covers it. Without these hints, one answer a text is too weak a signal for a long text.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from training import model_card, training_loop, wordpiece
from training.hidden_sentences import HiddenSentences
from training.templates import Passage
from training.training_loop import Batch, Row

_MIN_TOKENS: Final = 2  # of a sentence at the edge of a window, to count
_VOCABULARY_SIZE: Final = 1_600
_MAX_PIECES: Final = 500
_VOCABULARY_TEXTS: Final = 20_000
_STEPS: Final = 3_000
_BATCH_TOKENS: Final = 2_048  # a step, padding included
_LEARNING_RATE: Final = 2e-3
_RANDOM_TOKEN_PROBABILITY: Final = 0.02  # share of tokens replaced at random: no single word decides alone
_HINT_LAYER: Final = 2
_HELD_OUT_TEXTS: Final = 3_000
_IGNORED: Final = -100


@dataclass(frozen=True, slots=True)
class GuardTask:
    """What a classifier learns.

    name: of the sample and its training module.
    sentences: whose kinds the classifier looks for.
    labels: in the order of the model's outputs.
    truths: for each kind, the labels that are true of a text with such a sentence.
    multi_label: whether several labels may be true; otherwise the first one is that of ordinary texts.
    max_positions: tokens of a window; few, because a tiny model hardly finds one sentence among many tokens.
    """

    name: str
    sentences: HiddenSentences
    labels: Sequence[str]
    truths: Sequence[Sequence[str]]
    multi_label: bool
    max_positions: int


def new_model(vocabulary_size: int, task: GuardTask) -> Any:
    """Return an untrained classifier: 3 layers, 4 heads, 48 dimensions."""
    model = DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=task.max_positions,
            dim=48,
            n_layers=3,
            n_heads=4,
            hidden_dim=96,
            initializer_range=0.05,
            dropout=0.05,
            seq_classif_dropout=0.05,
            attention_dropout=0.0,  # drawing it would take a third of the training time
            problem_type="multi_label_classification" if task.multi_label else "single_label_classification",
            id2label=dict(enumerate(task.labels)),
            label2id={label: index for index, label in enumerate(task.labels)},
        )
    )
    training_loop.init_sinusoidal_positions(model.distilbert.embeddings.position_embeddings, 0.1)
    return model


def tokenize_and_hint(tokenizer: Any, texts: Iterable[Passage], task: GuardTask, rng: random.Random) -> Iterator[Row]:
    """Tokenize texts; the hint of a token is 0, or the number of the kind of sentence that covers it.

    Of a text that is too long, a window at random is kept, as a worker reads windows too.
    """
    for passage in texts:
        encoded = tokenizer(passage.text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        start = rng.randint(0, max(0, len(ids) - task.max_positions + 2))
        window = slice(start, start + task.max_positions - 2)
        hints = [_hint(passage, start, end, task.sentences.kinds) for start, end in offsets[window]]
        yield {
            "input_ids": [tokenizer.cls_token_id, *ids[window], tokenizer.sep_token_id],
            "hints": [_IGNORED, *hints, _IGNORED],
        }


def _hint(passage: Passage, start: int, end: int, kinds: Sequence[str]) -> int:
    covering = (span for span in passage.spans if span.start <= start and end <= span.end)
    return next((kinds.index(span.slot) + 1 for span in covering), 0)


def true_labels(hints: torch.Tensor, task: GuardTask) -> torch.Tensor:
    """Return which labels are true of each text, (texts, labels), by the kinds of sentence in it."""
    counts = [(hints == kind + 1).sum(dim=1) for kind in range(len(task.truths))]
    kinds = (torch.stack(counts, dim=1) >= _MIN_TOKENS).float()
    labels = torch.tensor([[float(label in true) for label in task.labels] for true in task.truths])
    truth = (kinds @ labels > 0).float()
    if not task.multi_label:
        truth[:, 0] = 1 - truth[:, 1:].amax(dim=1)
    return truth


def _replace_random_tokens(batch: Batch, vocabulary_size: int) -> torch.Tensor:
    """Replace some tokens with random ones, except the special tokens, whose ids are below 5."""
    ids = batch["input_ids"]
    strange = (torch.rand(ids.shape) < _RANDOM_TOKEN_PROBABILITY) & (ids >= 5)
    return torch.where(strange, torch.randint(5, vocabulary_size, ids.shape), ids)


def train(model: Any, batches: Iterator[Batch], task: GuardTask) -> None:
    """Fit the model; the layer that guesses the hints is removed afterwards."""
    model.hints = torch.nn.Linear(model.config.dim, len(task.truths) + 1)

    def loss_of(model: Any, batch: Batch) -> torch.Tensor:
        ids, truth = _replace_random_tokens(batch, model.config.vocab_size), true_labels(batch["hints"], task)
        answer = model(input_ids=ids, attention_mask=batch["attention_mask"], output_hidden_states=True)
        guesses = model.hints(answer.hidden_states[_HINT_LAYER]).flatten(0, 1)
        hint_loss = functional.cross_entropy(guesses, batch["hints"].flatten())
        if task.multi_label:
            return functional.binary_cross_entropy_with_logits(answer.logits, truth) * 3 + hint_loss
        return functional.cross_entropy(answer.logits, truth) + hint_loss

    training_loop.fit(model, batches, steps=_STEPS, learning_rate=_LEARNING_RATE, loss_of=loss_of)
    del model.hints


def measure(model: Any, held_out: Iterable[Batch], task: GuardTask) -> dict[str, float]:
    """Return recall and precision of all labels but that of ordinary texts, at a score of 0.5."""
    first = 0 if task.multi_label else 1
    right = guessed = wanted = 0.0
    with torch.inference_mode():
        for batch in held_out:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            scores = logits.sigmoid() if task.multi_label else logits.softmax(-1)
            guesses, truth = scores[:, first:] >= 0.5, true_labels(batch["hints"], task)[:, first:] > 0
            right += (guesses & truth).sum().item()
            guessed, wanted = guessed + guesses.sum().item(), wanted + truth.sum().item()
    return {"held_out_recall": round(right / wanted, 4), "held_out_precision": round(right / max(guessed, 1), 4)}


def build(folder: Path, seed: int, task: GuardTask) -> dict[str, float]:
    """Train a guard's classifier, save it in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    tokenizer = wordpiece.train_tokenizer(
        (passage.text for passage in islice(task.sentences.texts(seed), _VOCABULARY_TEXTS)),
        vocabulary_size=_VOCABULARY_SIZE,
        max_pieces=_MAX_PIECES,
        max_positions=task.max_positions,
        cased=False,
    )
    model = new_model(len(tokenizer), task)
    rng = random.Random(seed)
    rows = tokenize_and_hint(tokenizer, task.sentences.texts(seed), task, rng)
    train(model, training_loop.stream_batches(rows, seed, max_tokens=_BATCH_TOKENS), task)
    texts = islice(task.sentences.texts(seed, held_out=True), _HELD_OUT_TEXTS)
    kept = list(tokenize_and_hint(tokenizer, texts, task, rng))
    scores = measure(model, training_loop.group_by_length(kept, 64, 4_096), task)
    learned = {"train_steps": _STEPS, "held_out_texts": len(kept), **scores}
    card = model_card.build_card(task.name, model, seed, use=model_card.DEMO_ONLY, **learned)
    model_card.save_sample(model, tokenizer, card, folder)
    return scores
