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
from models.pipelines.pipeline import SAMPLES

SAMPLE = "translation"
MEAN_TOKENS, MOST_TOKENS, BEAMS = 25, 128, 4
FITTED_ON, FITTED_SEED = 16, 1
SPREAD = 0.05  # of the weights; fresh ones have 0.02, and their texts would run in circles
GEOMETRY = {
    "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048, "max_position_embeddings": 512,
}  # fmt: skip


def checkpoint() -> Path:
    """The folder of the translator, made unless it is there."""
    return checkpoints.kept(f"translator-{MEAN_TOKENS}", SAMPLE, _made)


def told() -> dict[str, Any]:
    """What `generate` is told, by us and by the peers."""
    return {"num_beams": BEAMS, "max_length": MOST_TOKENS, "early_stopping": True}


def _made() -> Any:
    tokenizer = checkpoints.tokenizer(SAMPLES / SAMPLE)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer), eos_token_id=end, pad_token_id=pad, decoder_start_token_id=pad, bos_token_id=None,
        forced_eos_token_id=None, scale_embedding=True, init_std=SPREAD, **GEOMETRY,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    model.final_logits_bias[0, pad] = -100.0  # never written
    model.final_logits_bias[0, end] = _lacking(model, tokenizer, end)
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=pad, decoder_start_token_id=pad, **told()
    )  # fmt: skip
    return model


@torch.inference_mode()
def _lacking(model: Any, tokenizer: Any, end: int) -> float:
    """What the end's score lacks to be the highest at one step in `MEAN_TOKENS` of texts written without an end."""
    gaps = []
    for text in corpus.texts(tokenizer, FITTED_ON, seed=FITTED_SEED):
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        written = model.generate(
            **inputs, max_new_tokens=MEAN_TOKENS, num_beams=1, do_sample=False, suppress_tokens=[end],
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        logits = torch.cat(written.logits)
        others = logits.clone()
        others[:, end] = -torch.inf
        gaps.append(others.max(dim=1).values - logits[:, end])
    return torch.quantile(torch.cat(gaps), 1 / MEAN_TOKENS).item()
