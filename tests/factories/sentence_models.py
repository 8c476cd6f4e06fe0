"""Files of sentence-transformers for tiny random models."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

PREFIX = "sentence_transformers.models"
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}


def add_modules(
    folder: Path,
    pooling: Mapping[str, Any] | None = None,
    steps: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    prefix: str = PREFIX,
) -> Path:
    """Add `modules.json` and the modules' folders to a saved model; returns its folder.

    pooling: the content of the pooling's config.json, None = the mean.
    steps: the name and the config.json of each module after it; dense layers get random weights.
    """
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules += [(name, f"{index}_{name}") for index, (name, _) in enumerate(steps, start=2)]
    write_json(folder / "modules.json", module_list(modules, prefix))
    config = json.loads((folder / "config.json").read_text())
    size = next(config[key] for key in ("hidden_size", "d_model", "dim", "n_embd") if key in config)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **(pooling or MEAN)})
    for (name, path), (_, fields) in zip(modules[2:], steps, strict=True):
        if name != "Normalize":
            write_json(folder / path / "config.json", fields)
        if tensors := _random_weights(name, fields):
            save_file(tensors, folder / path / "model.safetensors")
    return folder


def module_list(modules: Sequence[tuple[str, str]], prefix: str = PREFIX) -> list[dict[str, Any]]:
    """Return the content of `modules.json` for modules with these names and folders."""
    return [
        {"idx": index, "name": str(index), "path": path, "type": f"{prefix}.{name}"}
        for index, (name, path) in enumerate(modules)
    ]


def write_json(path: Path, content: Any) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _random_weights(name: str, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    torch.manual_seed(len(name))
    if name == "LayerNorm":
        size = config["dimension"]
        return {"norm.weight": torch.rand(size) + 0.5, "norm.bias": torch.rand(size)}
    if name != "Dense":
        return {}
    taken, given = config["in_features"], config["out_features"]
    weights = {"linear.weight": torch.randn(given, taken) * 0.2}
    if config.get("bias", True):
        weights["linear.bias"] = torch.randn(given)
    if config.get("use_residual") and taken != given:
        weights["residual.weight"] = torch.randn(given, taken) * 0.2
    return weights
