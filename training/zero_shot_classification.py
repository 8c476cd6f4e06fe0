"""Train the sample zero-shot model: `python -m training.zero_shot_classification [--out FOLDER] [--seed 0]`.

The model has BERT's shape at about a five-hundredth of its size, with the three labels of natural language inference.
It knows a few dozen everyday topics and some tones ("urgent", "positive"), each under several names.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from transformers import BertConfig, BertForSequenceClassification

from training import model_card, training_loop, wordpiece
from training.topics import ENTAILMENT, LABELS, SUBJECTS, TOPICS, Claim, labels_for, stream_claims, topic_texts
from training.training_loop import Row

_TASK: Final = "zero-shot-classification"
_MAX_POSITIONS: Final = 256
_VOCABULARY_SIZE: Final = 1_900
_MAX_PIECES: Final = 450  # the rest are whole words, which identify a topic better than their pieces
_VOCABULARY_TEXTS: Final = 30_000
_STEPS: Final = 5_000
_LEARNING_RATE: Final = 2e-3
_HELD_OUT_CLAIMS: Final = 3_000
_HELD_OUT_CHOICES: Final = 500
_CANDIDATE_COUNT: Final = 5
_HYPOTHESIS_TEMPLATE: Final = "This example is {}."  # default of Hugging Face's pipeline


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained model: 2 layers, 4 heads, 64 dimensions."""
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=_MAX_POSITIONS,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            initializer_range=0.05,
            hidden_dropout_prob=0.05,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
    )
    training_loop.init_sinusoidal_positions(model.bert.embeddings.position_embeddings, 0.05)
    return model


def tokenize_claims(tokenizer: Any, pairs: Iterable[Claim]) -> Iterator[Row]:
    """Tokenize texts with their claims."""
    for claim in pairs:
        encoded = tokenizer(
            claim.text, claim.hypothesis, truncation="only_first", max_length=_MAX_POSITIONS, return_token_type_ids=True
        )
        parts = encoded["token_type_ids"]
        told = [claim.claimed_subject if part else claim.topic for part in parts]
        told[0] = claim.tone  # no single word has the tone, so [CLS] has to collect it
        yield {"input_ids": encoded["input_ids"], "token_type_ids": parts, "labels": claim.label, "hints": told}


def _predict_labels(model: Any, batch: training_loop.Batch) -> torch.Tensor:
    logits: torch.Tensor = model(
        **{key: batch[key] for key in ("input_ids", "token_type_ids", "attention_mask")}
    ).logits
    return logits


def accuracy(model: Any, held_out: Iterable[training_loop.Batch]) -> float:
    """Return the share of claims judged correctly."""
    with torch.inference_mode():
        right = [_predict_labels(model, batch).argmax(-1) == batch["labels"] for batch in held_out]
    return torch.cat(right).float().mean().item()


def top_1_accuracy(model: Any, tokenizer: Any, seed: int) -> float:
    """Return how often a text's topic is the most entailed candidate, as a zero-shot pipeline ranks them."""
    rng = random.Random(f"{seed}/choices")
    right = 0
    single = (text for text in topic_texts(rng, held_out=True) if len(text.topics) == 1)
    for text in islice(single, _HELD_OUT_CHOICES):
        others = rng.sample([topic for topic in TOPICS if topic not in text.topics], _CANDIDATE_COUNT - 1)
        labels = [labels_for(topic)[0] for topic in (text.topics[0], *others)]
        pairs = (Claim(text.text, _HYPOTHESIS_TEMPLATE.format(label), ENTAILMENT) for label in labels)
        batch = training_loop.pad_rows(list(tokenize_claims(tokenizer, pairs)))
        with torch.inference_mode():
            right += int(_predict_labels(model, batch)[:, ENTAILMENT].argmax()) == 0
    return right / _HELD_OUT_CHOICES


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the zero-shot model, save it in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    words = (f"{claim.text} {claim.hypothesis}" for claim in islice(stream_claims(seed), _VOCABULARY_TEXTS))
    tokenizer = wordpiece.train_tokenizer(
        words, vocabulary_size=_VOCABULARY_SIZE, max_pieces=_MAX_PIECES, max_positions=_MAX_POSITIONS, cased=False
    )
    model = new_model(len(tokenizer))
    learned = training_loop.stream_batches(tokenize_claims(tokenizer, stream_claims(seed)), seed)
    training_loop.fit_with_hints(
        model, learned, hint_count=len(SUBJECTS), layer=1, steps=_STEPS, learning_rate=_LEARNING_RATE
    )
    kept = list(tokenize_claims(tokenizer, islice(stream_claims(seed, held_out=True), _HELD_OUT_CLAIMS)))
    scores = {
        "held_out_accuracy": round(accuracy(model, training_loop.group_by_length(kept, 64, 4_096)), 4),
        "held_out_top_1_of_5": round(top_1_accuracy(model, tokenizer, seed), 4),
    }
    learned_from = {"train_steps": _STEPS, "held_out_claims": len(kept), "held_out_choices": _HELD_OUT_CHOICES}
    model_card.save_sample(
        model, tokenizer, model_card.build_card(_TASK, model, seed, **learned_from, **scores), folder
    )
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
