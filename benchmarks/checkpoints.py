"""Checkpoints: models of real geometry with random weights, made once, since a pass takes as long whatever they say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
)

from models.pipelines.pipeline import SAMPLES

FOLDER = Path(__file__).parent / ".models"

NLI_LABELS = ("contradiction", "neutral", "entailment")
NER_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
BASE_VOCABULARY = 30_522


def classifier() -> Path:
    """DistilBERT-base, 67 M parameters, two labels."""
    return kept(
        "classifier", "sentiment-analysis", lambda: _distilbert(DistilBertForSequenceClassification, ("A", "B"))
    )


def entailment() -> Path:
    """DistilBERT-base as a zero-shot classifier."""
    return kept(
        "entailment", "sentiment-analysis", lambda: _distilbert(DistilBertForSequenceClassification, NLI_LABELS)
    )


def tagger() -> Path:
    """DistilBERT-base that names entities."""
    return kept("tagger", "sentiment-analysis", lambda: _distilbert(DistilBertForTokenClassification, NER_LABELS))


def tokenizer(folder: Path) -> Any:
    """A checkpoint's tokenizer."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def kept(name: str, sample: str, make: Callable[[], Any]) -> Path:
    """The folder of a checkpoint with the tokenizer of a sample model, made unless it is there."""
    folder = FOLDER / name
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        tokenizer(SAMPLES / sample).save_pretrained(folder)
        make().save_pretrained(folder)
    return folder


def _distilbert(head: Any, labels: tuple[str, ...]) -> Any:
    # The defaults are the base model's: 6 layers of 768, 12 heads. Most of its vocabulary has no word here.
    config = DistilBertConfig(
        vocab_size=BASE_VOCABULARY,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    return head(config)
