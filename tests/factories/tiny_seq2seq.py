"""Tiny random encoder-decoders without golden answers: tests only load and run them."""

from pathlib import Path

from transformers import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    LEDConfig,
    LEDForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from tests.factories.tiny_models import BERT_SIZES as BERT_SIZES
from tests.factories.tiny_models import MAX_POSITIONS, WORDPIECE_VOCABULARY, save, wordpiece_tokenizer
from tests.golden import seq2seq_models
from tests.golden.seq2seq_models import BART_SIZES, T5_SIZES


def bert2bert(folder: Path) -> Path:
    """Two BERTs as encoder and decoder; the end token is from the tokenizer."""
    sizes = {
        "vocab_size": len(WORDPIECE_VOCABULARY),
        "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": 0.5,
        **BERT_SIZES,
    }
    decoder = BertConfig(is_decoder=True, add_cross_attention=True, **sizes)
    model = EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**sizes), decoder))
    ids = {"decoder_start_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    model.generation_config.update(**ids)
    return save(folder, model, wordpiece_tokenizer())


def umt5(folder: Path) -> Path:
    """UMT5: separate relative position biases in every layer."""
    seq2seq_models.t5(folder)
    UMT5ForConditionalGeneration(UMT5Config(vocab_size=258, **T5_SIZES)).save_pretrained(folder)
    return folder


def led(folder: Path) -> Path:
    """LED: windowed attention, to which the model itself pads."""
    seq2seq_models.bart(folder)
    config = LEDConfig(
        vocab_size=266,
        max_encoder_position_embeddings=128,
        max_decoder_position_embeddings=40,
        attention_window=8,
        init_std=0.5,
        **BART_SIZES,
    )
    LEDForConditionalGeneration(config).save_pretrained(folder)
    return folder
