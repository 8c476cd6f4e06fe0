"""Installs the package into a folder on the import path, with an entry point, and saves a model for it."""

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.tasks.own import registry
from tests.factories.tiny_models import (
    BERT_SIZES,
    MAX_POSITIONS,
    WIDE_WEIGHTS,
    WORDPIECE_VOCABULARY,
    save,
    wordpiece_tokenizer,
)

PACKAGE = "irony_tasks"
SOURCE = Path(__file__).parent / PACKAGE


@contextmanager
def package_on_path(
    folder: Path, *, entry_points: dict[str, str] | None = None, version: str = "1.2.0"
) -> Iterator[Path]:
    """Let the package be importable from `folder`, installed if it has entry points; forget all of it afterwards."""
    shutil.copytree(SOURCE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    if entry_points is not None:
        write_metadata(folder, "irony-tasks", entry_points, version)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    before = dict(registry._specs)
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        registry._specs.clear()
        registry._specs.update(before)
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def write_metadata(folder: Path, package: str, entry_points: dict[str, str], version: str) -> None:
    """Write what pip writes for a package with these tasks."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    modules = {value.partition(":")[0].partition(".")[0] for value in entry_points.values()}
    (info / "top_level.txt").write_text("".join(f"{module}\n" for module in modules))
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[batchmill.tasks]", *lines, ""]))


def save_model(folder: Path, **fields: Any) -> Path:
    """A tiny model with random weights for the task; the package must be importable."""
    model: Any = importlib.import_module(f"{PACKAGE}.model")
    sizes = {**BERT_SIZES, **WIDE_WEIGHTS, "max_position_embeddings": MAX_POSITIONS}
    config = model.IronyConfig(vocab_size=len(WORDPIECE_VOCABULARY), pad_token_id=0, **{**sizes, **fields})
    torch.manual_seed(0)
    return save(folder, model.IronyModel(config), wordpiece_tokenizer())
