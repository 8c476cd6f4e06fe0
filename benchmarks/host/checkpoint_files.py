"""Tiny checkpoints with real vocabularies and lengths, and the inputs of each workload."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from benchmarks import checkpoints, corpus
from models.pipelines.pipeline import SAMPLES_FOLDER

ENCODER_SIZES = {"dim": 8, "n_heads": 2, "hidden_dim": 16, "n_layers": 1, "max_position_embeddings": 512}
HEADS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "sentiment-analysis": (DistilBertForSequenceClassification, ("NEGATIVE", "POSITIVE")),
    "zero-shot-classification": (DistilBertForSequenceClassification, checkpoints.NLI_LABELS),
    "question-answering": (DistilBertForQuestionAnswering, ("A", "B")),
    "ner": (DistilBertForTokenClassification, checkpoints.NER_LABELS),
    "fill-mask": (DistilBertForMaskedLM, ("A", "B")),
    "text-ranking": (DistilBertForSequenceClassification, ("score",)),
    "feature-extraction": (DistilBertModel, ("A", "B")),
}
VECTOR_SIZE = 384  # dimensions of an embedder's vectors, as in MiniLM
QUESTION_WORDS = 9


def checkpoint_folder(task: str) -> Path:
    """Return the folder of the task's checkpoint; it is built if missing."""
    sample = task if task in ("text-generation", "summarization", "translation") else "fill-mask"
    build: dict[str, Callable[[Any], Any]] = {
        "text-generation": _build_generator,
        "summarization": _build_encoder_decoder,
        "translation": _build_encoder_decoder,
    }
    tokenizer = checkpoints.load_tokenizer(SAMPLES_FOLDER / sample)
    tokenizer.model_max_length = 512

    def build_model() -> Any:
        return build[task](tokenizer) if task in build else _build_encoder(task)

    is_built = (checkpoints.MODELS_FOLDER / f"instant-{task}" / "model.safetensors").exists()
    folder = checkpoints.cached_checkpoint(f"instant-{task}", sample, build_model)
    if not is_built:  # files that change while another run loads them would end that run
        tokenizer.save_pretrained(folder)
    return folder


def make_inputs(task: str, folder: Path, count: int) -> list[Any]:
    """Return the inputs of a batch, all different, with the lengths of `corpus`' mixed distribution."""
    tokenizer = checkpoints.load_tokenizer(folder)
    texts = corpus.random_texts(tokenizer, count, "mixed")
    if task == "question-answering":
        source = random.Random(0)
        words = " ".join(texts[:500]).split()
        return [{"question": " ".join(source.choices(words, k=QUESTION_WORDS)), "context": text} for text in texts]
    if task == "text-ranking":
        source, words = random.Random(0), " ".join(texts[:500]).split()
        return [
            {"query": " ".join(source.choices(words, k=QUESTION_WORDS)), "text": f"{text} {number}"}
            for number, text in enumerate(texts)
        ]
    if task == "fill-mask":
        return [{"text": _mask_one_word(text, tokenizer.mask_token)} for text in texts]
    if task == "text-generation":
        return [{"text": f"{' '.join(text.split()[:12])} {number}"} for number, text in enumerate(texts)]
    return [{"text": f"{text} {number}"} for number, text in enumerate(texts)]


def write_inputs(path: Path, inputs: list[Any]) -> None:
    """Write one JSON document per line."""
    path.write_text("".join(json.dumps(document) + "\n" for document in inputs), encoding="utf-8")


def _mask_one_word(text: str, mask: str) -> str:
    words = text.split()
    words[min(len(words) // 2, 200)] = mask
    return " ".join(words)


def _build_encoder(task: str) -> Any:
    head, labels = HEADS[task]
    config = DistilBertConfig(
        vocab_size=checkpoints.BASE_VOCABULARY,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **(ENCODER_SIZES | ({"dim": VECTOR_SIZE} if head is DistilBertModel else {})),
    )
    return head(config)


def _build_generator(tokenizer: Any) -> Any:
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=1,
        n_embd=8,
        n_head=2,
        n_positions=1024,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def _build_encoder_decoder(tokenizer: Any) -> Any:
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return T5ForConditionalGeneration(config)
