"""A translator: Marian's geometry with random weights, whose texts end after skewed lengths, the same in every run.

As in `writer`, a constant on the end's score, fitted on other texts, makes it the highest at one step in `MEAN_TOKENS`
of a greedy text. Marian has a place for it: a bias on every token's score. By beams a text then ends early or not at
all, which is as skewed as lengths can be.
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
WEIGHT_STD = 0.05  # of the weights; fresh ones have 0.02, and their texts would run in circles
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
    """The folder of the translator, made unless it is there."""
    return checkpoints.cached_checkpoint(f"translator-{MEAN_TOKENS}", SAMPLE, _build_model)


def generation_parameters() -> dict[str, Any]:
    """What `generate` is told, by us and by the peers."""
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
    model.final_logits_bias[0, pad] = -100.0  # never written
    model.final_logits_bias[0, end] = _end_score_deficit(model, tokenizer, end)
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=pad, decoder_start_token_id=pad, **generation_parameters()
    )
    return model


@torch.inference_mode()
def _end_score_deficit(model: Any, tokenizer: Any, end: int) -> float:
    """What the end's score lacks to be the highest at one step in `MEAN_TOKENS` of texts written without an end."""
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
