"""A tiny model in a folder, the same to the bit under transformers 4 and 5.

Weights are drawn for each parameter from its name alone, and a tokenizer is plain files written here, so a folder
depends neither on a library's random numbers nor on its way of writing tokenizers. `digest` tells when it does.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.utils import logging

# What save_pretrained writes differently in each version, and nothing in it changes an answer.
UNHASHED_FILES = {"config.json", "generation_config.json"}
WEIGHTS_FILE = "model.safetensors"


def save_model(folder: Path, model: PreTrainedModel, tokenizer: Mapping[str, Any], weight_std: float = 0.5) -> Path:
    """Write a model with drawn weights and the tokenizer's files: text, bytes, or what JSON is made from."""
    _randomize_weights(model, weight_std)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    for name, content in tokenizer.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def hash_folder(folder: Path) -> str:
    """A hash of every weight, by name, and of the tokenizer's files."""
    total = hashlib.sha256()
    for name, tensor in sorted(load_file(folder / WEIGHTS_FILE).items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.numpy().tobytes())
    for path in sorted(folder.iterdir()):
        if path.name != WEIGHTS_FILE and path.name not in UNHASHED_FILES:
            total.update(path.name.encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


@torch.no_grad()
def _randomize_weights(model: PreTrainedModel, weight_std: float) -> None:
    """Wide, so that different inputs get clearly different scores; what is fixed (sinusoids) stays."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(parameter.shape)) * weight_std
        if parameter.ndim == 1 and name.endswith("weight"):
            drawn = 1 + drawn / 4  # a layer norm's
        parameter.copy_(torch.from_numpy(drawn.astype(np.float32)))
