"""Train the sample sentiment model: `python -m training.sentiment_analysis [--out FOLDER] [--seed 0]`.

With the sample, tests and the demo run a real Hugging Face model without a network. It has DistilBERT's shape at about
a three-hundredth of its size. It is trained only on `training.reviews`: right for plain opinions, wrong for irony.
"""

import argparse
import random
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertTokenizer

from training import model_card
from training.reviews import Review, reviews

_TASK: Final = "sentiment-analysis"
_OUT_FOLDER: Final = Path("models/samples") / _TASK
_MAX_POSITIONS: Final = 512
_VOCABULARY_SIZE: Final = 3400  # with 56 dimensions the folder stays close to a megabyte, small enough to commit
_MAX_PIECES: Final = 600  # word pieces among these; the rest are whole words
_TRAIN_TEXTS: Final = 150_000
_HELD_OUT_TEXTS: Final = 4_000
_EPOCHS: Final = 2
_BATCH_TEXTS: Final = 64  # a step; with more, the short texts, the majority, would weigh too little
_BATCH_TOKENS: Final = 4096  # a step, padding included
_LEARNING_RATE: Final = 1.5e-3  # at twice the rate some seeds never leave chance
_RANDOM_TOKEN_PROBABILITY: Final = (
    0.02  # share of tokens replaced at random, so that an unknown word does not change the verdict
)
_LABELS: Final = {0: "NEGATIVE", 1: "POSITIVE"}


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of similar length: `ids` and `mask` are (texts, tokens), `labels` is (texts,)."""

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


def train_tokenizer(texts: Sequence[str]) -> Any:
    """Train a lower-casing WordPiece vocabulary and return DistilBERT's tokenizer with it.

    Frequent words stay whole, because a word's sentiment says little about its pieces. The trainer's pieces serve
    unseen words.
    """
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a word piece, not a password
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=_MAX_PIECES,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer=trainer)
    split = raw.pre_tokenizer.pre_tokenize_str
    words = Counter(word for text in texts for word, _ in split(raw.normalizer.normalize_str(text)))
    pieces = sorted(raw.get_vocab(), key=lambda piece: raw.token_to_id(piece) or 0)
    vocabulary = dict.fromkeys([*pieces, *(word for word, _ in words.most_common())])
    kept = list(vocabulary)[:_VOCABULARY_SIZE]
    return DistilBertTokenizer(
        vocab={piece: index for index, piece in enumerate(kept)}, model_max_length=_MAX_POSITIONS
    )


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained classifier: 2 layers, 4 heads, 56 dimensions."""
    config = DistilBertConfig(
        vocab_size=vocabulary_size,
        max_position_embeddings=_MAX_POSITIONS,
        dim=56,
        n_layers=2,
        n_heads=4,
        hidden_dim=128,
        initializer_range=0.05,  # the usual 0.02 is for wider models; with it some seeds never leave chance
        seq_classif_dropout=0.1,
        attention_dropout=0.0,  # drawing it would take a third of the training time
        id2label=_LABELS,
        label2id={name: label for label, name in _LABELS.items()},
    )
    return DistilBertForSequenceClassification(config)


def group_by_length(tokenizer: Any, texts: Sequence[Review]) -> list[Batch]:
    """Tokenize and group texts by length into batches."""
    encoded = tokenizer([review.text for review in texts], truncation=True, max_length=_MAX_POSITIONS)["input_ids"]
    order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
    groups: list[list[int]] = [[]]
    for index in order:
        if len(groups[-1]) == _BATCH_TEXTS or (len(groups[-1]) + 1) * len(encoded[index]) > _BATCH_TOKENS:
            groups.append([])
        groups[-1].append(index)
    return [
        _pad_batch([encoded[index] for index in group], [texts[index].label for index in group]) for group in groups
    ]


def _pad_batch(encoded: Sequence[Sequence[int]], labels: Sequence[int]) -> Batch:
    longest = max(map(len, encoded))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in encoded])
    return Batch(ids, (ids != 0).long(), torch.tensor(labels))


def train(model: Any, training_batches: Sequence[Batch], seed: int) -> None:
    """Fit the model to the batches; the learning rate rises for a tenth of the steps, then falls to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_LEARNING_RATE, total_steps=_EPOCHS * len(training_batches), pct_start=0.1
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.02)
    model.train()
    for epoch, step, batch in _training_steps(training_batches, seed):
        ids = _replace_random_tokens(batch, model.config.vocab_size)
        loss = loss_of(model(input_ids=ids, attention_mask=batch.mask).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(
                f"epoch {epoch + 1}/{_EPOCHS}  step {step:4}/{len(training_batches)}  loss {loss.item():.3f}",
                flush=True,
            )
    model.eval()


def _training_steps(training_batches: Sequence[Batch], seed: int) -> Iterator[tuple[int, int, Batch]]:
    rng = random.Random(seed)
    for epoch in range(_EPOCHS):
        for step, batch in enumerate(rng.sample(training_batches, len(training_batches))):
            yield epoch, step, batch


def _replace_random_tokens(batch: Batch, vocabulary_size: int) -> torch.Tensor:
    """Replace some word pieces with random ones, except the special tokens, whose ids are below 5."""
    strange = (torch.rand(batch.ids.shape) < _RANDOM_TOKEN_PROBABILITY) & (batch.ids >= 5)
    return torch.where(strange, torch.randint(5, vocabulary_size, batch.ids.shape), batch.ids)


def accuracy(model: Any, held_out: Sequence[Batch]) -> float:
    """Return the share of texts whose most likely label is right."""
    with torch.inference_mode():
        right = [model(input_ids=b.ids, attention_mask=b.mask).logits.argmax(-1) == b.labels for b in held_out]
    return torch.cat(right).float().mean().item()


def build(folder: Path, seed: int) -> float:
    """Generate the reviews, train the model, save it in `folder` and return its held-out accuracy."""
    torch.manual_seed(seed)
    texts = list(reviews(seed, _TRAIN_TEXTS))
    held_out = list(reviews(seed, _HELD_OUT_TEXTS, held_out=True))
    tokenizer = train_tokenizer([review.text for review in texts])
    model = new_model(len(tokenizer))
    train(model, group_by_length(tokenizer, texts), seed)
    share = accuracy(model, group_by_length(tokenizer, held_out))
    learned_from = {"train_texts": len(texts), "held_out_texts": len(held_out), "held_out_accuracy": round(share, 4)}
    model_card.save_sample(model, tokenizer, model_card.build_card(_TASK, model, seed, **learned_from), folder)
    return share


def main() -> None:
    """Parse the command line and build the sample."""
    parser = argparse.ArgumentParser(description="Train the sample sentiment model.")
    parser.add_argument("--out", type=Path, default=_OUT_FOLDER, help=f"folder to write (default: {_OUT_FOLDER})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"held-out accuracy: {build(options.out, options.seed):.4f}")


if __name__ == "__main__":
    main()
