"""Models of real geometry with random weights, or tiny ones for a smoke run."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from benchmarks import checkpoints, corpus, synthetic_generator
from benchmarks.gpu.measuring import StageContext
from models.pipelines.pipeline import SAMPLES_FOLDER

TINY_ENCODER = {"dim": 64, "n_heads": 4, "hidden_dim": 128, "n_layers": 2}
TINY_BART = {"d_model": 64, "layers": 2, "ffn_dim": 128, "heads": 4}
# With transformers' own 0.02 all texts have nearly the same score, and a wrong one would not be seen.
INITIALIZER_RANGE = 0.06
CALIBRATION_TEXTS = 32
LOGIT_SPREAD = 1.5  # the standard deviation of the logits' difference, so that scores fill the range from 0.5 to 1
BART_LARGE = {"d_model": 1024, "layers": 12, "ffn_dim": 4096, "heads": 16}
BART_VOCABULARY = 50_265
TINY_GENERATOR = {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 1024}
GPT2_SMALL = {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024}


def build_classifier(context: StageContext) -> Path:
    """DistilBERT-base with two labels, of which each has about half of the texts."""
    torch.manual_seed(0)
    sizes = TINY_ENCODER if context.smoke else {}
    labels = ("NEGATIVE", "POSITIVE")
    config = DistilBertConfig(
        vocab_size=checkpoints.BASE_VOCABULARY,
        id2label=dict(enumerate(labels)),
        label2id=_numbers(labels),
        initializer_range=INITIALIZER_RANGE,
        **sizes,
    )
    model = DistilBertForSequenceClassification(config).eval()
    _spread_scores(model, checkpoints.load_tokenizer(SAMPLES_FOLDER / "sentiment-analysis"))
    return _save(context, "classifier", "sentiment-analysis", model)


def build_nli_model(context: StageContext) -> Path:
    """BART-large as an inference model."""
    torch.manual_seed(0)
    sizes = TINY_BART if context.smoke else BART_LARGE
    tokenizer = checkpoints.load_tokenizer(SAMPLES_FOLDER / "sentiment-analysis")
    config = BartConfig(
        vocab_size=BART_VOCABULARY,
        max_position_embeddings=1024,
        d_model=sizes["d_model"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes["layers"],
        encoder_ffn_dim=sizes["ffn_dim"],
        decoder_ffn_dim=sizes["ffn_dim"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        decoder_start_token_id=tokenizer.sep_token_id,
        id2label=dict(enumerate(checkpoints.NLI_LABELS)),
        label2id=_numbers(checkpoints.NLI_LABELS),
    )
    return _save(context, "nli", "sentiment-analysis", BartForSequenceClassification(config))


def build_generator(context: StageContext) -> Path:
    """GPT-2 small whose greedy texts end at skewed lengths."""
    sizes = TINY_GENERATOR if context.smoke else GPT2_SMALL
    torch.manual_seed(0)
    model = synthetic_generator.build_model(sizes, calibration_texts=4 if context.smoke else 8)
    return _save(context, "generator", synthetic_generator.SAMPLE, model)


@torch.inference_mode()
def _spread_scores(model: Any, tokenizer: Any) -> None:
    """Scale and shift the classifier, so that both labels occur and scores differ."""
    rows = [
        tokenizer(text, truncation=True, max_length=512, return_tensors="pt")["input_ids"]
        for text in corpus.random_texts(tokenizer, CALIBRATION_TEXTS, "mixed")
    ]
    logits = torch.cat([model(input_ids=row).logits for row in rows])
    differences = logits[:, 1] - logits[:, 0]
    scale = float(LOGIT_SPREAD / differences.std())
    model.classifier.weight.mul_(scale)
    model.classifier.bias.mul_(scale)
    model.classifier.bias[1] -= scale * float(differences.median())


def _numbers(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


def _save(context: StageContext, name: str, sample: str, model: Any) -> Path:
    folder = context.folder / name
    checkpoints.load_tokenizer(SAMPLES_FOLDER / sample).save_pretrained(folder)
    model.to(torch.float32).save_pretrained(folder)
    return folder
