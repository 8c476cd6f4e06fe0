"""Tiny random encoders with the heads that read text: NLI labels, tags for tokens, words for masks."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DebertaV2Tokenizer,
    PreTrainedTokenizerFast,
    XLMRobertaTokenizer,
)

from models.pipelines.pipeline import Pipeline
from tests.models_made import (
    BYTES,
    DISTIL_SIZES,
    LETTERS,
    POSITIONS,
    SIZES,
    SPECIAL_WORDS,
    SPREAD,
    WORDS,
    bytes_as_words,
    save,
    word_pieces,
)

NLI = ("contradiction", "neutral", "entailment")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

# SentencePiece's kind: a word begins with the mark; longer pieces are the likelier.
PIECES = [
    *(("▁" + word, -2.0) for word in WORDS if not word.startswith("##")), ("▁", -4.0), ("ing", -3.0), ("ed", -3.0),
    *((letter, -6.0) for letter in LETTERS), ("世", -6.0), ("é", -6.0),
]  # fmt: skip

ENCODERS = ("bert", "distilbert", "roberta", "deberta-v2", "modernbert", "electra", "xlm-roberta")


def nli(folder: Path, architecture: str, labels: tuple[str, ...] = NLI, **other: Any) -> Path:
    """A model of inference, for zero-shot classification."""
    return _made(folder, AutoModelForSequenceClassification, architecture, labels, **other)


def tagger(folder: Path, architecture: str, labels: tuple[str, ...] = TAGS, **other: Any) -> Path:
    """A model that tags tokens, for named entities."""
    return _made(folder, AutoModelForTokenClassification, architecture, labels, **other)


def masked(folder: Path, architecture: str, **other: Any) -> Path:
    """A model that fills masks."""
    return _made(folder, AutoModelForMaskedLM, architecture, None, **other)


def entry(folder: Path, task: str, **other: Any) -> Pipeline:
    """A catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": task, "model": str(folder), **other})


def tokenizer_of(architecture: str, **other: Any) -> Any:
    """The architecture's own kind of tokenizer."""
    if architecture in ("bert", "distilbert", "electra", "convbert", "albert"):
        return word_pieces(**other)
    if architecture in ("roberta", "bart"):
        return bytes_as_words(POSITIONS - 2)
    return {"deberta-v2": _deberta, "xlm-roberta": _xlm, "camembert": _xlm, "modernbert": _modern}[architecture]()


def _made(
    folder: Path, head: Any, architecture: str, labels: tuple[str, ...] | None, tokenizer: Any = None, **config: Any
) -> Path:  # fmt: skip
    tokenizer = tokenizer or tokenizer_of(architecture)
    named = {} if labels is None else {
        "num_labels": len(labels), "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }  # fmt: skip
    ids = {"pad_token_id": tokenizer.pad_token_id}
    made = AutoConfig.for_model(architecture, **{**_sizes(architecture, tokenizer), **ids, **named, **config})
    torch.manual_seed(0)
    return save(folder, head.from_config(made, attn_implementation="eager"), tokenizer)


def _sizes(architecture: str, tokenizer: Any) -> dict[str, Any]:
    common = {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS, **SPREAD}
    if architecture == "distilbert":
        return {**common, **DISTIL_SIZES}
    if architecture == "bart":
        layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
        wide = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_model": 32, "init_std": 0.5}
        ids = {"bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None}
        return {**common, **layers, **wide, **ids}
    own: dict[str, dict[str, Any]] = {
        "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 0, "sep_token_id": 2,
                       "bos_token_id": 0, "eos_token_id": 2, "initializer_cutoff_factor": 2.0},
        "electra": {"embedding_size": 16}, "albert": {"embedding_size": 16}, "convbert": {"embedding_size": 32},
        "deberta-v2": {"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm",
                       "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
        "roberta": {"bos_token_id": 0, "eos_token_id": 2}, "xlm-roberta": {"bos_token_id": 0, "eos_token_id": 2},
        "camembert": {"bos_token_id": 0, "eos_token_id": 2},
    }  # fmt: skip
    return {**common, **SIZES, **own.get(architecture, {})}


def _deberta() -> Any:
    return DebertaV2Tokenizer(vocab=[*((word, 0.0) for word in SPECIAL_WORDS), *PIECES], model_max_length=POSITIONS)


def _xlm() -> Any:
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return XLMRobertaTokenizer(vocab=[*((word, 0.0) for word in special), *PIECES], model_max_length=POSITIONS - 2)


def _modern() -> Any:
    """ModernBERT's: bytes like RoBERTa's, framed and named like BERT's."""
    names = dict(zip(BYTES[:5], ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"), strict=True))
    words = [names.get(word, word) for word in BYTES]
    inner = Tokenizer(BPE(vocab={word: number for number, word in enumerate(words)}, merges=[], unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, cls_token="[CLS]", pad_token="[PAD]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]", model_max_length=POSITIONS, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
