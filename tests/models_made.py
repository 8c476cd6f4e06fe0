"""Tiny random models in folders, as `save_pretrained` leaves them: real architectures, real tokenizers, no Hub."""

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

POSITIONS = 64

# Wide, so that different texts get clearly different scores.
SPREAD = {"initializer_range": 0.5}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTIL_SIZES = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}

SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("love", "hate", "terrible", "great", "product", "##ing", "##ed", "the", "a", "it", "世", "界", "خ", "é")
LETTERS = tuple(chr(code) for code in range(33, 127))
WORD_PIECES = [*SPECIAL_WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
BYTES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]


def pipeline(folder: Path, **other: Any) -> Pipeline:
    """A catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": "sentiment-analysis", "model": str(folder), **other})


def distilbert(folder: Path, **config: Any) -> Path:
    """A DistilBERT classifier."""
    made = DistilBertConfig(**_config(WORD_PIECES, **DISTIL_SIZES, **config))
    return save(folder, _random(DistilBertForSequenceClassification, made), word_pieces())


def bert(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """A BERT classifier, which tells the two texts of a pair apart by `token_type_ids`."""
    made = BertConfig(**_config(WORD_PIECES, **SIZES, **config))
    return save(folder, _random(BertForSequenceClassification, made), tokenizer or word_pieces())


def roberta(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """A RoBERTa classifier, whose positions begin behind that of the padding token."""
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    made = RobertaConfig(**_config(BYTES, **SIZES, **ids, **config))
    return save(folder, _random(RobertaForSequenceClassification, made), tokenizer or bytes_as_words(POSITIONS - 2))


def gpt2(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """A GPT-2 classifier, which looks at a text's last token."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS}
    made = GPT2Config(vocab_size=len(WORD_PIECES), **{**SPREAD, **sizes, "pad_token_id": 0, **config})
    return save(folder, _random(GPT2ForSequenceClassification, made), tokenizer or word_pieces())


def xlnet(folder: Path, *, tokenizer: Any = None, **config: Any) -> Path:
    """An XLNet classifier, which looks at the last position, so its padding must be on the left."""
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}
    made = XLNetConfig(vocab_size=len(WORD_PIECES), **{**SPREAD, **sizes, "pad_token_id": 0, **config})
    return save(folder, _random(XLNetForSequenceClassification, made), tokenizer or word_pieces(padding_side="left"))


def masked_bert(folder: Path) -> Path:
    """A BERT that fills masks: the right family, the wrong head."""
    made = BertConfig(**_config(WORD_PIECES, **SIZES))
    return save(folder, _random(BertForMaskedLM, made), word_pieces())


def word_pieces(max_length: int | None = POSITIONS, **other: Any) -> Any:
    """BERT's kind of tokenizer: lower case, a piece for each ASCII letter and a few words."""
    known = {piece: number for number, piece in enumerate(WORD_PIECES)}
    return BertTokenizer(vocab=known, **_limit(max_length), **other)


def bytes_as_words(max_length: int | None) -> Any:
    """RoBERTa's kind of tokenizer: one token for each byte, so no text is unknown to it."""
    return RobertaTokenizer(vocab={word: number for number, word in enumerate(BYTES)}, merges=[], **_limit(max_length))


def save(folder: Path, model: PreTrainedModel, tokenizer: Any) -> Path:
    """Write both into the folder; returns it."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _random(architecture: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return architecture(config)


def _config(words: list[str], **other: Any) -> dict[str, Any]:
    return {"vocab_size": len(words), "max_position_embeddings": POSITIONS, **SPREAD, **other}


def _limit(max_length: int | None) -> dict[str, int]:
    return {} if max_length is None else {"model_max_length": max_length}
