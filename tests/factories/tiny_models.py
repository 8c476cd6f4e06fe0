"""Tiny random classifiers in folders, as `save_pretrained` writes them: real architectures and tokenizers, no Hub."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
    XLNetConfig,
    XLNetForSequenceClassification,
)
from transformers.utils import logging

from models.pipelines.pipeline import Pipeline

MAX_POSITIONS = 64

# Wide, so that different texts get clearly different scores.
WIDE_WEIGHTS = {"initializer_range": 0.5}
BERT_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTIL_SIZES = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("love", "hate", "terrible", "great", "product", "##ing", "##ed", "the", "a", "it", "世", "界", "خ", "é")
LETTERS = tuple(chr(code) for code in range(33, 127))
WORDPIECE_VOCABULARY = [*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
BYTE_VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]


def pipeline_for(folder: Path, **fields: Any) -> Pipeline:
    """Return a catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": "sentiment-analysis", "model": str(folder), **fields})


def distilbert(folder: Path, **config: Any) -> Path:
    """A DistilBERT classifier."""
    made = DistilBertConfig(**_base_config(WORDPIECE_VOCABULARY, **DISTIL_SIZES, **config))
    return save(folder, _random_model(DistilBertForSequenceClassification, made), wordpiece_tokenizer())


def bert(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """A BERT classifier, which distinguishes the two texts of a pair by `token_type_ids`."""
    made = BertConfig(**_base_config(WORDPIECE_VOCABULARY, **BERT_SIZES, **config))
    return save(folder, _random_model(BertForSequenceClassification, made), tokenizer or wordpiece_tokenizer())


def roberta(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """A RoBERTa classifier, whose positions start after the padding token's."""
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    made = RobertaConfig(**_base_config(BYTE_VOCABULARY, **BERT_SIZES, **ids, **config))
    return save(
        folder, _random_model(RobertaForSequenceClassification, made), tokenizer or byte_tokenizer(MAX_POSITIONS - 2)
    )


def gpt2(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """A GPT-2 classifier, which reads a text's last token."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": MAX_POSITIONS}
    made = GPT2Config(vocab_size=len(WORDPIECE_VOCABULARY), **{**WIDE_WEIGHTS, **sizes, "pad_token_id": 0, **config})
    return save(folder, _random_model(GPT2ForSequenceClassification, made), tokenizer or wordpiece_tokenizer())


def xlnet(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """An XLNet classifier, which reads the last position, so its padding must be on the left."""
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}
    made = XLNetConfig(vocab_size=len(WORDPIECE_VOCABULARY), **{**WIDE_WEIGHTS, **sizes, "pad_token_id": 0, **config})
    return save(
        folder,
        _random_model(XLNetForSequenceClassification, made),
        tokenizer or wordpiece_tokenizer(padding_side="left"),
    )


def masked_bert(folder: Path) -> Path:
    """A BERT that fills masks: the right architecture with the wrong head."""
    made = BertConfig(**_base_config(WORDPIECE_VOCABULARY, **BERT_SIZES))
    return save(folder, _random_model(BertForMaskedLM, made), wordpiece_tokenizer())


def wordpiece_tokenizer(max_length: int | None = MAX_POSITIONS, **fields: Any) -> Any:
    """Return BERT's kind of tokenizer: lower case, a piece for each ASCII letter and a few words."""
    known = {piece: number for number, piece in enumerate(WORDPIECE_VOCABULARY)}
    return BertTokenizer(vocab=known, **_max_length_options(max_length), **fields)


def byte_tokenizer(max_length: int | None) -> Any:
    """Return RoBERTa's kind of tokenizer: one token for each byte, so no text is unknown."""
    return RobertaTokenizer(
        vocab={word: number for number, word in enumerate(BYTE_VOCABULARY)},
        merges=[],
        **_max_length_options(max_length),
    )


def save(folder: Path, model: PreTrainedModel, tokenizer: Any) -> Path:
    """Save model and tokenizer in the folder and return it."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _random_model(architecture: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return architecture(config)


def _base_config(vocabulary: list[str], **fields: Any) -> dict[str, Any]:
    return {"vocab_size": len(vocabulary), "max_position_embeddings": MAX_POSITIONS, **WIDE_WEIGHTS, **fields}


def _max_length_options(max_length: int | None) -> dict[str, int]:
    return {} if max_length is None else {"model_max_length": max_length}
