"""The conversion writes safetensors next to a snapshot's pickled weights without running code in the pickle."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file

from models.embedding import sentence_files
from models.embedding.sentence_files import SentenceFiles
from models.errors import ModelError
from models.foreign_errors import first_line

PICKLED_WEIGHTS_FILE, PICKLED_INDEX_FILE, SAFETENSORS_FILE = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.safetensors",
)


def convert(repo_id: str, folder: Path) -> Path:
    """Write `model.safetensors` into a snapshot's folder in the Hub's cache and return its path.

    The layers of an embedding model, which have folders apart, are converted as well. torch unpickles only tensors
    (`weights_only`), so code hidden in the file is rejected and never runs.

    Raises ModelError if there are no pickled weights or they can't be read.
    """
    for layer in _layer_paths(folder):
        _convert_layer(repo_id, folder, layer)
    target = sentence_files.transformer_folder(folder) / SAFETENSORS_FILE
    if target.exists():
        return target
    place = target.parent.relative_to(folder)
    patterns = [str(place / name) for name in ("pytorch_model*.bin", PICKLED_INDEX_FILE)]
    snapshot_download(repo_id, revision=folder.name, allow_patterns=patterns)
    weights: dict[str, torch.Tensor] = {}
    for path in _shard_paths(repo_id, target.parent):
        weights |= _load_tensors(path)
    _save(weights, target)
    return target


def _layer_paths(folder: Path) -> list[str]:
    """Return the folders of the layers that have weights."""
    try:
        files = SentenceFiles.read(folder)
    except ModelError:
        return []  # the load gives the reason
    return [step.path for step in files.steps if step.kind != "normalize"] if files else []


def _convert_layer(repo_id: str, folder: Path, path: str) -> None:
    target = folder / path / SAFETENSORS_FILE
    if not target.exists():
        snapshot_download(repo_id, revision=folder.name, allow_patterns=[f"{path}/{PICKLED_WEIGHTS_FILE}"])
        source = target.with_name(PICKLED_WEIGHTS_FILE)
        if source.exists():
            _save(_load_tensors(source), target)


def _save(weights: dict[str, torch.Tensor], target: Path) -> None:
    partial = target.with_suffix(f".{os.getpid()}")
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(target)


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
