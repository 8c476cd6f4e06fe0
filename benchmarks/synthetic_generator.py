"""A small GPT-2 with random weights whose greedy texts end at skewed lengths, the same in every run.

Random weights never choose the end token by themselves. A constant on its score, fitted on a few prompts, makes it the
highest at one step in `MEAN_TOKENS`. Lengths are then about geometric: many short and few long. Words and positions
weigh more than in a fresh GPT-2, because its greedy texts would repeat themselves and never end.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks import checkpoints
from models.pipelines.pipeline import SAMPLES_FOLDER

SAMPLE = "text-generation"
NUL_TOKEN = "Ā"  # as byte-level vocabularies spell it; a text with it fails, because no database stores it
MEAN_TOKENS, MAX_NEW_TOKENS = 40, 256
CONFIG_SIZES = {"n_layer": 6, "n_embd": 512, "n_head": 8, "n_positions": 1024}
WORD_EMBEDDING_STD, POSITION_EMBEDDING_STD, WEIGHT_STD = 0.2, 0.15, 0.05  # GPT-2's are 0.02
CALIBRATION_TEXTS = 24  # prompts


def generator_folder() -> Path:
    """Return the model's folder; it is built if missing."""
    return checkpoints.cached_checkpoint(f"writer-{MEAN_TOKENS}", SAMPLE, build_model)


def random_prompts(count: int, seed: int = 0) -> list[str]:
    """Return prompts of 3 to 12 words."""
    source = random.Random(seed)
    words = sorted(
        word
        for word in checkpoints.load_tokenizer(SAMPLES_FOLDER / "sentiment-analysis").get_vocab()
        if word.isalpha() and len(word) > 2
    )
    return [" ".join(source.choices(words, k=source.randint(3, 12))) for _ in range(count)]


def build_model(sizes: Mapping[str, int] = CONFIG_SIZES, calibration_texts: int = CALIBRATION_TEXTS) -> Any:
    """Return a model of these sizes whose texts end at skewed lengths, fitted on some prompts."""
    tokenizer = checkpoints.load_tokenizer(SAMPLES_FOLDER / SAMPLE)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        initializer_range=WEIGHT_STD,
        **sizes,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wte.weight.normal_(0.0, WORD_EMBEDDING_STD)
        model.transformer.wpe.weight.normal_(0.0, POSITION_EMBEDDING_STD)
        head = model.lm_head.weight
        head[[pad, tokenizer.convert_tokens_to_ids(NUL_TOKEN)]] = 0.0  # never the highest
        direction = head[end] / head[end].square().sum()
        model.transformer.ln_f.bias += _end_score_deficit(model, tokenizer, end, calibration_texts) * direction
    return model


@torch.inference_mode()
def _end_score_deficit(model: Any, tokenizer: Any, end: int, calibration_texts: int) -> float:
    """Return the constant that makes the end token win at one step in `MEAN_TOKENS` of texts generated without it."""
    gaps = []
    for prompt in random_prompts(calibration_texts, seed=1):
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        written = model.generate(
            **inputs,
            max_new_tokens=2 * MEAN_TOKENS,
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
