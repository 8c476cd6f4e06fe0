"""Conversion: a snapshot that has only pickled weights gets safetensors beside them, without running the pickle."""

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
    """Write `model.safetensors` into a snapshot's folder in the Hub's cache; returns its path.

    torch unpickles tensors and nothing else (`weights_only`), so that code hidden in the file is refused, not run.
    Raises ModelError.
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
    except Exception as error:  # whatever a broken or hostile pickle comes to
        raise ModelError(f"{path.name} can't be converted: {first_line(error)}") from error
    # Tied weights share their memory, which safetensors does not take: each gets its own.
    return {name: tensor.clone().contiguous() for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}
