"""Train the sample fill-mask model: `python -m training.fill_mask [--out FOLDER] [--seed 0]`.

The model has DistilBERT's shape at about a three-hundredth of its size. It knows everyday sentences and a few dozen
facts, such as the capitals of countries.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from transformers import DistilBertConfig, DistilBertForMaskedLM

from training import model_card, training_loop, wordpiece
from training.everyday import everyday_texts
from training.training_loop import Batch, Row

_TASK: Final = "fill-mask"
_MAX_POSITIONS: Final = 256
_VOCABULARY_SIZE: Final = 1_500
_MAX_PIECES: Final = 450
_VOCABULARY_TEXTS: Final = 30_000
_STEPS: Final = 6_000
_LEARNING_RATE: Final = 2e-3
_MASK_PROBABILITY: Final = 0.2  # share of the tokens; above BERT's 0.15, because the texts are short
_HELD_OUT_TEXTS: Final = 3_000
_MASK_TOKEN_ID: Final = wordpiece.SPECIAL_TOKENS.index("[MASK]")


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained model: 3 layers, 4 heads, 64 dimensions."""
    model = DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=_MAX_POSITIONS,
            dim=64,
            n_layers=3,
            n_heads=4,
            hidden_dim=128,
            initializer_range=0.05,
            dropout=0.0,
            attention_dropout=0.0,
        )
    )
    training_loop.init_sinusoidal_positions(model.distilbert.embeddings.position_embeddings, 0.05)
    return model


def tokenize_texts(tokenizer: Any, lines: Iterable[str]) -> Iterator[Row]:
    """Tokenize texts."""
    for line in lines:
        yield {"input_ids": tokenizer(line, truncation=True, max_length=_MAX_POSITIONS)["input_ids"]}


def mask_tokens(batches: Iterable[Batch], rng: torch.Generator) -> Iterator[Batch]:
    """Mask random words, at least one in each text, and set them as labels; some labels stay visible."""
    for batch in batches:
        ids = batch["input_ids"]
        draw = torch.rand(ids.shape, generator=rng).masked_fill(ids <= _MASK_TOKEN_ID, 2.0)  # special tokens stay
        chosen = (draw < _MASK_PROBABILITY) | (draw == draw.min(dim=1, keepdim=True).values)
        shown = torch.where(draw % 0.1 < 0.08, _MASK_TOKEN_ID, ids)  # visible words must be predicted as well
        yield {
            **batch,
            "input_ids": torch.where(chosen, shown, ids),
            "labels": torch.where(chosen & (ids > _MASK_TOKEN_ID), ids, -100),
        }


def mask_one_token(batches: Iterable[Batch], rng: torch.Generator) -> Iterator[Batch]:
    """Mask exactly one word of each text."""
    for batch in batches:
        ids = batch["input_ids"]
        draw = torch.rand(ids.shape, generator=rng).masked_fill(ids <= _MASK_TOKEN_ID, 2.0)
        chosen = draw == draw.min(dim=1, keepdim=True).values
        yield {**batch, "input_ids": ids.masked_fill(chosen, _MASK_TOKEN_ID), "labels": ids.masked_fill(~chosen, -100)}


def top_k_accuracy(model: Any, held_out: Iterable[Batch], top_k: int) -> float:
    """Return how often the masked word is among the `top_k` most likely ones."""
    right: list[torch.Tensor] = []
    with torch.inference_mode():
        for batch in held_out:
            asked = batch["labels"] >= 0
            likeliest = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[asked]
            right.append((likeliest.topk(top_k).indices == batch["labels"][asked][:, None]).any(-1))
    return torch.cat(right).float().mean().item()


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the fill-mask model, save it in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    tokenizer = wordpiece.train_tokenizer(
        islice(everyday_texts(seed), _VOCABULARY_TEXTS),
        vocabulary_size=_VOCABULARY_SIZE,
        max_pieces=_MAX_PIECES,
        max_positions=_MAX_POSITIONS,
    )
    model = new_model(len(tokenizer))
    learned = training_loop.stream_batches(tokenize_texts(tokenizer, everyday_texts(seed)), seed)
    training_loop.fit(model, mask_tokens(learned, draws), steps=_STEPS, learning_rate=_LEARNING_RATE)
    kept = list(tokenize_texts(tokenizer, islice(everyday_texts(seed, held_out=True), _HELD_OUT_TEXTS)))
    asked = list(mask_one_token(training_loop.group_by_length(kept, 64, 4_096), draws))
    scores = {f"held_out_top_{most}": round(top_k_accuracy(model, asked, most), 4) for most in (1, 5)}
    learned_from = {"train_steps": _STEPS, "held_out_texts": len(kept)}
    model_card.save_sample(
        model, tokenizer, model_card.build_card(_TASK, model, seed, **learned_from, **scores), folder
    )
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
