"""Checkpoints of real geometry with random weights, because the weights do not affect the time of a pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
)

from models.pipelines.pipeline import SAMPLES_FOLDER

MODELS_FOLDER = Path(__file__).parent / ".models"

NLI_LABELS = ("contradiction", "neutral", "entailment")
NER_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
BASE_VOCABULARY = 30_522


def classifier_folder() -> Path:
    """DistilBERT-base, 67 M parameters, two labels."""
    return cached_checkpoint(
        "classifier", "sentiment-analysis", lambda: _random_distilbert(DistilBertForSequenceClassification, ("A", "B"))
    )


def nli_folder() -> Path:
    """DistilBERT-base as a zero-shot classifier."""
    return cached_checkpoint(
        "entailment", "sentiment-analysis", lambda: _random_distilbert(DistilBertForSequenceClassification, NLI_LABELS)
    )


def ner_folder() -> Path:
    """DistilBERT-base as a named-entity tagger."""
    return cached_checkpoint(
        "tagger", "sentiment-analysis", lambda: _random_distilbert(DistilBertForTokenClassification, NER_LABELS)
    )


def cross_encoder_folder() -> Path:
    """A cross-encoder of MiniLM's geometry, 6 layers of 384, with a score between 0 and 1."""
    return cached_checkpoint("cross-encoder", "sentiment-analysis", _random_cross_encoder)


def load_tokenizer(folder: Path) -> Any:
    """Load a checkpoint's tokenizer."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def cached_checkpoint(name: str, sample: str, build_model: Callable[[], Any]) -> Path:
    """Return the folder of a checkpoint with a sample model's tokenizer; it is built if missing."""
    folder = MODELS_FOLDER / name
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        load_tokenizer(SAMPLES_FOLDER / sample).save_pretrained(folder)
        build_model().save_pretrained(folder)
    return folder


def _random_distilbert(head: Any, labels: tuple[str, ...]) -> Any:
    # The defaults are those of the base model: 6 layers of 768, 12 heads. Most of its vocabulary is unused here.
    config = DistilBertConfig(
        vocab_size=BASE_VOCABULARY,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    return head(config)


def _random_cross_encoder() -> Any:
    sizes = {"hidden_size": 384, "intermediate_size": 1_536, "num_hidden_layers": 6, "num_attention_heads": 12}
    return BertForSequenceClassification(BertConfig(vocab_size=BASE_VOCABULARY, num_labels=1, **sizes))
