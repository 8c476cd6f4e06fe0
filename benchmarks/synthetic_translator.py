"""A model of Marian's geometry with random weights whose texts end at skewed lengths, the same in every run.

As in `synthetic_generator`, a constant on the end token's score makes it the highest at one step in `MEAN_TOKENS` of a
greedy text. Marian has a bias on every token's score to hold it. With beam search a text then ends early or not at all,
the greatest possible skew.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from benchmarks import checkpoints, corpus
from models.pipelines.pipeline import SAMPLES_FOLDER

SAMPLE = "translation"
MEAN_TOKENS, MAX_NEW_TOKENS, NUM_BEAMS = 25, 128, 4
CALIBRATION_TEXTS, CALIBRATION_SEED = 16, 1
WEIGHT_STD = 0.05  # fresh weights have 0.02, and their texts would repeat themselves
CONFIG_SIZES = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "max_position_embeddings": 512,
}


def translator_folder() -> Path:
    """Return the model's folder; it is built if missing."""
    return checkpoints.cached_checkpoint(f"translator-{MEAN_TOKENS}", SAMPLE, _build_model)


def generation_parameters() -> dict[str, Any]:
    """Return the arguments of `generate`, the same for us and the peers."""
    return {"num_beams": NUM_BEAMS, "max_length": MAX_NEW_TOKENS, "early_stopping": True}


def _build_model() -> Any:
    tokenizer = checkpoints.load_tokenizer(SAMPLES_FOLDER / SAMPLE)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer),
        eos_token_id=end,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        bos_token_id=None,
        forced_eos_token_id=None,
        scale_embedding=True,
        init_std=WEIGHT_STD,
        **CONFIG_SIZES,
    )
    model = MarianMTModel(config).eval()
    model.final_logits_bias[0, pad] = -100.0  # never generated
    model.final_logits_bias[0, end] = _end_score_deficit(model, tokenizer, end)
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=pad, decoder_start_token_id=pad, **generation_parameters()
    )
    return model


@torch.inference_mode()
def _end_score_deficit(model: Any, tokenizer: Any, end: int) -> float:
    """Return the constant that makes the end token win at one step in `MEAN_TOKENS` of texts generated without it."""
    gaps = []
    for text in corpus.random_texts(tokenizer, CALIBRATION_TEXTS, seed=CALIBRATION_SEED):
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        written = model.generate(
            **inputs,
            max_new_tokens=MEAN_TOKENS,
            num_beams=1,
            do_sample=False,
            suppress_tokens=[end],
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = torch.cat(written.logits)
        others = logits.clone()
        others[:, end] = -torch.inf
        gaps.append(others.max(dim=1).values - logits[:, end])
    return torch.quantile(torch.cat(gaps), 1 / MEAN_TOKENS).item()
