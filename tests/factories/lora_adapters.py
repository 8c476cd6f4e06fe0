"""Tiny LoRA adapters in folders, as peft's `save_pretrained` writes them, with random weights."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from worker.loading.lora.peft_package import import_peft

SIZES = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}  # random, so that the adapter has an effect


def adapter_for(
    base: Path,
    folder: Path,
    *,
    seed: int = 0,
    auto_class: Any = AutoModelForSequenceClassification,
    task_type: str | None = "SEQ_CLS",
    load_options: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Save an adapter for the model in a folder.

    load_options: how the base is loaded, such as with another number of labels.
    options: of peft's LoraConfig.
    """
    peft = import_peft()
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = auto_class.from_pretrained(base, ignore_mismatched_sizes=True, **(load_options or {}))
        config = peft.LoraConfig(**{**SIZES, "task_type": task_type, "target_modules": ["query", "value"], **options})
        peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def peft_model(base: Path, adapter: Path, auto_class: Any = AutoModelForSequenceClassification, **options: Any) -> Any:
    """The model as peft itself loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = auto_class.from_pretrained(base, ignore_mismatched_sizes=True, **options)
        return import_peft().PeftModel.from_pretrained(model, adapter).eval()


def edit_config(adapter: Path, **changes: Any) -> Path:
    """Change options in an adapter's configuration."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return adapter
