"""Tiny summarizers and translators, made the same under transformers 4 and 5."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100_CODES
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES as MBART_CODES
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART50_CODES

from tests.golden import sentencepiece_file
from tests.golden import seq2seq_tokenizers as tokens
from tests.golden.model_files import save_model
from tests.golden.qa_models import _byte_vocabulary

BART_SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "dropout": 0.0,
}
T5_SIZES = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
FAIRSEQ_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
NLLB_CODES = ("eng_Latn", "deu_Latn", "fra_Latn", "zho_Hans")
CURRENT_CHECKPOINT = {"transformers_version": "4.57.6"}
EARLY_CHECKPOINT = {"transformers_version": "4.27.0"}
# No two words twice in a row: random models like to repeat themselves.
NO_REPETITION = {"no_repeat_ngram_size": 2}


def bart(folder: Path) -> Path:
    """As BART for news: lengths, penalties and a forced first and last token in its generation config."""
    own = {
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
        "max_length": 24,
        "min_length": 6,
        "no_repeat_ngram_size": 3,
        "length_penalty": 2.0,
        "early_stopping": True,
        "num_beams": 4,
        **CURRENT_CHECKPOINT,
    }
    return _bart(folder, own)


def bare_bart(folder: Path) -> Path:
    """It says nothing of how to write, so all is the pipeline's default."""
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return _bart(folder, {**ids, **CURRENT_CHECKPOINT}, max_position_embeddings=600)


def early_bart(folder: Path) -> Path:
    """From before generation configs: what it says of writing stands in its config."""
    _bart(folder, {}, prefix=" ")
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    said = {"max_length": 20, "min_length": 3, "num_beams": 2, "length_penalty": 0.5, "no_repeat_ngram_size": 2}
    task = {"summarization": {"max_length": 30, "min_length": 4, "num_beams": 3, "early_stopping": True}}
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(said, task_specific_params=task, max_length=16, forced_eos_token_id=2)
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def t5(folder: Path) -> Path:
    """As T5: a prefix, beams and lengths for each task in its config."""
    return _t5(folder, T5Config, T5ForConditionalGeneration, task_specific_params=T5_TASKS)


def mt5(folder: Path) -> Path:
    """As mT5: gated, with weights of its own for the words it writes; no task has parameters."""
    return _t5(folder, MT5Config, _untied_mt5, feed_forward_proj="gated-gelu")


T5_TASKS = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 30,
        "min_length": 8,
        "no_repeat_ngram_size": 3,
        "num_beams": 3,
        "prefix": "summarize: ",
    },
    "translation_en_to_de": {
        "early_stopping": True,
        "max_length": 40,
        "num_beams": 4,
        "prefix": "translate English to German: ",
    },
    "translation_en_to_fr": {
        "early_stopping": True,
        "max_length": 40,
        "num_beams": 2,
        "prefix": "translate English to French: ",
    },
}


def marian(folder: Path) -> Path:
    """As a Marian translator: it may not write its padding, and starts from it."""
    return _marian(
        folder, {"max_length": 40, "num_beams": 6, "forced_eos_token_id": 0, **NO_REPETITION, **EARLY_CHECKPOINT}
    )


def free_marian(folder: Path) -> Path:
    """A generation config whose own number of new tokens counts, since it has a `max_length` beside it."""
    return _marian(
        folder, {"max_length": 40, "max_new_tokens": 12, "num_beams": 2, **NO_REPETITION, **CURRENT_CHECKPOINT}
    )


def mbart(folder: Path) -> Path:
    return _mbart(
        folder,
        [*FAIRSEQ_SPECIAL_TOKENS, *tokens.vocabulary_words(), *MBART_CODES, "<mask>"],
        "MBartTokenizer",
        MBART_CODES,
    )


def mbart50(folder: Path) -> Path:
    return _mbart(
        folder,
        [*FAIRSEQ_SPECIAL_TOKENS, *tokens.vocabulary_words(), *MBART50_CODES, "<mask>"],
        "MBart50Tokenizer",
        MBART50_CODES,
    )


def nllb(folder: Path) -> Path:
    """Its tokenizer merges pairs; the language comes first, and of codes it knows four."""
    letters = dict.fromkeys("".join(tokens.vocabulary_words()))
    vocab = [*FAIRSEQ_SPECIAL_TOKENS, *letters, "th", "the", "▁the", *NLLB_CODES, "<mask>"]
    merges = [["t", "h"], ["th", "e"], ["▁", "the"]]
    pairs = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {word: place for place, word in enumerate(vocab)},
        "merges": merges,
    }
    special = [*FAIRSEQ_SPECIAL_TOKENS, *NLLB_CODES, "<mask>"]
    frame = (["eng_Latn"], ["</s>"])
    files = {
        "tokenizer.json": tokens.tokenizer_json(pairs, vocab, special, frame, "kept"),
        "tokenizer_config.json": tokens.tokenizer_config(
            "NllbTokenizer", src_lang="eng_Latn", additional_special_tokens=[*NLLB_CODES]
        ),
    }
    return _m2m100(folder, len(vocab), files)


def m2m100(folder: Path) -> Path:
    codes = M2M100_CODES["m2m100"]
    words = [*FAIRSEQ_SPECIAL_TOKENS, *tokens.vocabulary_words()]
    files = {
        "vocab.json": {word: place for place, word in enumerate(words)},
        "sentencepiece.bpe.model": sentencepiece_file.build_model(
            tokens.sentencepiece_vocabulary(tokens.vocabulary_words())
        ),
        "tokenizer_config.json": tokens.tokenizer_config(
            "M2M100Tokenizer",
            src_lang="en",
            language_codes="m2m100",
            additional_special_tokens=[f"__{code}__" for code in codes],
        ),
    }
    return _m2m100(folder, len(words) + len(codes) + 8, files)


def pegasus(folder: Path) -> Path:
    """Positions that end: 4.57 dies behind them."""
    words = [
        "<pad>",
        "</s>",
        "<mask_1>",
        "<mask_2>",
        *(f"<unk_{place}>" for place in range(2, 103)),
        "<unk>",
        *tokens.vocabulary_words(),
    ]
    special = words[:105]
    files = {
        "tokenizer.json": tokens.tokenizer_json(
            tokens.unigram_model(words, words.index("<unk>")), words, special, ([], ["</s>"])
        ),
        "tokenizer_config.json": {
            "tokenizer_class": "PegasusTokenizer",
            "model_max_length": tokens.MAX_POSITIONS,
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask_2>",
            "mask_token_sent": "<mask_1>",
        },
        "generation_config.json": {
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            "forced_eos_token_id": 1,
            "max_length": 64,
            "num_beams": 8,
            "length_penalty": 0.8,
            **NO_REPETITION,
            **EARLY_CHECKPOINT,
        },
    }
    config = PegasusConfig(
        vocab_size=len(words),
        max_position_embeddings=tokens.MAX_POSITIONS,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        scale_embedding=True,
        **BART_SIZES,
    )
    return _save(folder, PegasusForConditionalGeneration(config), files)


def _bart(folder: Path, generation_config: Mapping[str, Any], **fields: Any) -> Path:
    words = _byte_vocabulary()
    files = {
        "vocab.json": {word: number for number, word in enumerate(words)},
        "merges.txt": "#version: 0.2\nt h\nth e\nĠ the\ni n\nĠ in\n",
        "tokenizer_config.json": {"tokenizer_class": "BartTokenizer", "model_max_length": tokens.MAX_POSITIONS},
        "generation_config.json": dict(generation_config),
    }
    config = BartConfig(
        vocab_size=len(words), **{"max_position_embeddings": tokens.MAX_POSITIONS, **BART_SIZES, **fields}
    )
    return _save(folder, BartForConditionalGeneration(config), files)


def _untied_mt5(config: MT5Config) -> MT5ForConditionalGeneration:
    """transformers 5 ties them by its config whatever that says, and unties them where a checkpoint has both."""
    model = MT5ForConditionalGeneration(config)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    config.tie_word_embeddings = False
    return model


def _t5(folder: Path, config: Any, architecture: Any, **fields: Any) -> Path:
    words = [
        "<pad>",
        "</s>",
        "<unk>",
        *tokens.vocabulary_words(),
        *(f"<extra_id_{place}>" for place in range(99, -1, -1)),
    ]
    special = [*words[:3], *words[-100:]]
    files = {
        "tokenizer.json": tokens.tokenizer_json(
            tokens.unigram_model(words, 2), words, special, ([], ["</s>"]), "parts"
        ),
        "tokenizer_config.json": {
            "tokenizer_class": "T5Tokenizer",
            "model_max_length": tokens.MAX_POSITIONS,
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "extra_ids": 100,
        },
        "generation_config.json": {
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 0,
            **EARLY_CHECKPOINT,
        },
    }
    made = config(vocab_size=len(words), decoder_start_token_id=0, **T5_SIZES, **fields)
    return _save(folder, architecture(made), files)


def _marian(folder: Path, generation_config: Mapping[str, Any]) -> Path:
    words = ["</s>", "<unk>", *tokens.vocabulary_words(), "<pad>"]
    end = {"pad_token_id": len(words) - 1, "decoder_start_token_id": len(words) - 1, "eos_token_id": 0}
    files = {
        "vocab.json": {word: place for place, word in enumerate(words)},
        "source.spm": sentencepiece_file.build_model(tokens.sentencepiece_vocabulary(tokens.vocabulary_words())),
        # It reads one word as nothing, so it shows which of the two reads what is written.
        "target.spm": sentencepiece_file.build_model(
            tokens.sentencepiece_vocabulary(tokens.vocabulary_words()[::-1], undecoded_words=("▁French",))
        ),
        "tokenizer_config.json": {
            "tokenizer_class": "MarianTokenizer",
            "model_max_length": tokens.MAX_POSITIONS,
            "source_lang": "en",
            "target_lang": "de",
            "separate_vocabs": False,
        },
        "generation_config.json": {**end, "bad_words_ids": [[len(words) - 1]], **generation_config},
    }
    config = MarianConfig(
        vocab_size=len(words), max_position_embeddings=tokens.MAX_POSITIONS, scale_embedding=True, **BART_SIZES, **end
    )
    return _save(folder, MarianMTModel(config), files)


def _mbart(folder: Path, words: Sequence[str], tokenizer: str, codes: Sequence[str]) -> Path:
    first = tokenizer == "MBart50Tokenizer"
    frame: tokens.SpecialTokenFrame = (["en_XX"], ["</s>"]) if first else ([], ["</s>", "en_XX"])
    spaces_are = "one" if first else "parts"
    special = [*FAIRSEQ_SPECIAL_TOKENS, *codes, "<mask>"]
    files = {
        "tokenizer.json": tokens.tokenizer_json(tokens.unigram_model(words, 3), words, special, frame, spaces_are),
        "tokenizer_config.json": tokens.tokenizer_config(
            tokenizer, src_lang="en_XX", additional_special_tokens=[*codes]
        ),
        "generation_config.json": {
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
            "max_length": 32,
            "num_beams": 5,
            **NO_REPETITION,
            **EARLY_CHECKPOINT,
        },
    }
    config = MBartConfig(
        vocab_size=len(words), max_position_embeddings=tokens.MAX_POSITIONS, scale_embedding=True, **BART_SIZES
    )
    return _save(folder, MBartForConditionalGeneration(config), files)


def _m2m100(folder: Path, words: int, files: Mapping[str, Any]) -> Path:
    own = {
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "max_length": 36,
        "num_beams": 5,
        "early_stopping": True,
        **NO_REPETITION,
        **EARLY_CHECKPOINT,
    }
    config = M2M100Config(
        vocab_size=words, max_position_embeddings=tokens.MAX_POSITIONS, scale_embedding=True, **BART_SIZES
    )
    return _save(folder, M2M100ForConditionalGeneration(config), {**files, "generation_config.json": own})


def _save(folder: Path, model: Any, files: Mapping[str, Any]) -> Path:
    # With drawn biases nearly every text would be the same word over and over; a new model's are 0.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.endswith(".bias"))
    return save_model(folder, model, files)
