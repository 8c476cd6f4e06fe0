"""The conversion writes safetensors next to a snapshot's pickled weights without running code in the pickle."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file

from models.errors import ModelError, first_line

PICKLED_WEIGHTS_FILE, PICKLED_INDEX_FILE, SAFETENSORS_FILE = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.safetensors",
)


def convert(repo_id: str, folder: Path) -> Path:
    """Write `model.safetensors` into a snapshot's folder in the Hub's cache and return its path.

    torch unpickles only tensors (`weights_only`), so code hidden in the file is rejected and never runs.

    Raises ModelError if there are no pickled weights or they can't be read.
    """
    target = folder / SAFETENSORS_FILE
    if target.exists():
        return target
    snapshot_download(repo_id, revision=folder.name, allow_patterns=["pytorch_model*.bin", PICKLED_INDEX_FILE])
    weights: dict[str, torch.Tensor] = {}
    for path in _shard_paths(repo_id, folder):
        weights |= _load_tensors(path)
    partial = target.with_suffix(f".{os.getpid()}")
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(target)
    return target


def _shard_paths(repo_id: str, folder: Path) -> Iterable[Path]:
    index = folder / PICKLED_INDEX_FILE
    names = (
        {PICKLED_WEIGHTS_FILE}
        if not index.exists()
        else set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    )
    paths = [folder / Path(name).name for name in sorted(names)]
    if not all(path.exists() for path in paths):
        raise ModelError(f"{repo_id} has no {PICKLED_WEIGHTS_FILE} to convert; name another model")
    return paths


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise ModelError(f"{path.name} can't be converted: {first_line(error)}") from error
    # safetensors rejects tied weights, which share memory, so each tensor is copied.
    return {name: tensor.clone().contiguous() for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}
