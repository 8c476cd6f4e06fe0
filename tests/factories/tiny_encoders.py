"""Tiny random encoders with heads for NLI labels, token tags and masked words."""

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
from tests.factories.tiny_models import (
    BERT_SIZES,
    BYTE_VOCABULARY,
    DISTIL_SIZES,
    LETTERS,
    MAX_POSITIONS,
    SPECIAL_TOKENS,
    WIDE_WEIGHTS,
    WORDS,
    byte_tokenizer,
    save,
    wordpiece_tokenizer,
)

NLI_LABELS = ("contradiction", "neutral", "entailment")
NER_LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

# As in SentencePiece: a word begins with the mark, and longer pieces are more likely.
UNIGRAM_PIECES = [
    *(("▁" + word, -2.0) for word in WORDS if not word.startswith("##")),
    ("▁", -4.0),
    ("ing", -3.0),
    ("ed", -3.0),
    *((letter, -6.0) for letter in LETTERS),
    ("世", -6.0),
    ("é", -6.0),
]

ARCHITECTURES = ("bert", "distilbert", "roberta", "deberta-v2", "modernbert", "electra", "xlm-roberta")


def nli_model(folder: Path, architecture: str, labels: tuple[str, ...] = NLI_LABELS, **fields: Any) -> Path:
    """Save an inference model, for zero-shot classification."""
    return _save_random(folder, AutoModelForSequenceClassification, architecture, labels, **fields)


def token_classifier(folder: Path, architecture: str, labels: tuple[str, ...] = NER_LABELS, **fields: Any) -> Path:
    """Save a token classifier, for named entities."""
    return _save_random(folder, AutoModelForTokenClassification, architecture, labels, **fields)


def masked_lm(folder: Path, architecture: str, **fields: Any) -> Path:
    """Save a masked language model."""
    return _save_random(folder, AutoModelForMaskedLM, architecture, None, **fields)


def pipeline_for(folder: Path, task: str, **fields: Any) -> Pipeline:
    """Return a catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": task, "model": str(folder), **fields})


def tokenizer_for(architecture: str, **fields: Any) -> Any:
    """Return the architecture's kind of tokenizer."""
    if architecture in ("bert", "distilbert", "electra", "convbert", "albert"):
        return wordpiece_tokenizer(**fields)
    if architecture in ("roberta", "bart"):
        return byte_tokenizer(MAX_POSITIONS - 2)
    return {
        "deberta-v2": _deberta_tokenizer,
        "xlm-roberta": _xlm_roberta_tokenizer,
        "camembert": _xlm_roberta_tokenizer,
        "modernbert": _modernbert_tokenizer,
    }[architecture]()


def _save_random(
    folder: Path, head: Any, architecture: str, labels: tuple[str, ...] | None, tokenizer: Any = None, **config: Any
) -> Path:
    tokenizer = tokenizer or tokenizer_for(architecture)
    named = (
        {}
        if labels is None
        else {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    )
    ids = {"pad_token_id": tokenizer.pad_token_id}
    made = AutoConfig.for_model(architecture, **{**_config_sizes(architecture, tokenizer), **ids, **named, **config})
    torch.manual_seed(0)
    return save(folder, head.from_config(made, attn_implementation="eager"), tokenizer)


def _config_sizes(architecture: str, tokenizer: Any) -> dict[str, Any]:
    common = {"vocab_size": len(tokenizer), "max_position_embeddings": MAX_POSITIONS, **WIDE_WEIGHTS}
    if architecture == "distilbert":
        return {**common, **DISTIL_SIZES}
    if architecture == "bart":
        layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
        wide = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_model": 32, "init_std": 0.5}
        ids = {"bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None}
        return {**common, **layers, **wide, **ids}
    own: dict[str, dict[str, Any]] = {
        "modernbert": {
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "cls_token_id": 0,
            "sep_token_id": 2,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "initializer_cutoff_factor": 2.0,
        },
        "electra": {"embedding_size": 16},
        "albert": {"embedding_size": 16},
        "convbert": {"embedding_size": 32},
        "deberta-v2": {
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
        "roberta": {"bos_token_id": 0, "eos_token_id": 2},
        "xlm-roberta": {"bos_token_id": 0, "eos_token_id": 2},
        "camembert": {"bos_token_id": 0, "eos_token_id": 2},
    }
    return {**common, **BERT_SIZES, **own.get(architecture, {})}


def _deberta_tokenizer() -> Any:
    return DebertaV2Tokenizer(
        vocab=[*((word, 0.0) for word in SPECIAL_TOKENS), *UNIGRAM_PIECES], model_max_length=MAX_POSITIONS
    )


def _xlm_roberta_tokenizer() -> Any:
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return XLMRobertaTokenizer(
        vocab=[*((word, 0.0) for word in special), *UNIGRAM_PIECES], model_max_length=MAX_POSITIONS - 2
    )


def _modernbert_tokenizer() -> Any:
    """Return ModernBERT's tokenizer: bytes like RoBERTa's, framed and named like BERT's."""
    names = dict(zip(BYTE_VOCABULARY[:5], ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"), strict=True))
    words = [names.get(word, word) for word in BYTE_VOCABULARY]
    inner = Tokenizer(BPE(vocab={word: number for number, word in enumerate(words)}, merges=[], unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        cls_token="[CLS]",
        pad_token="[PAD]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_max_length=MAX_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
    )
