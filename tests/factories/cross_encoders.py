"""Tiny random cross-encoders, files of sentence-transformers beside them, and its own scores to compare with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests.factories import tiny_encoders
from tests.factories.tiny_decoders import MAX_POSITIONS, VOCABULARY, byte_level_tokenizer
from tests.factories.tiny_models import BERT_SIZES, WIDE_WEIGHTS, save

DECODERS = ("llama", "qwen2")
ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "modernbert", "deberta-v2", "bart", *DECODERS)


def cross_encoder(folder: Path, architecture: str = "bert", **config: Any) -> Path:
    """Save a model with one label."""
    if architecture not in DECODERS:
        return tiny_encoders.nli_model(folder, architecture, ("score",), **config)
    sizes = {"vocab_size": len(VOCABULARY), "num_key_value_heads": 1, "max_position_embeddings": MAX_POSITIONS}
    options = {**BERT_SIZES, **WIDE_WEIGHTS, **sizes, "num_labels": 1, "pad_token_id": 1, **config}
    made = AutoConfig.for_model(architecture, **options)
    torch.manual_seed(0)
    return save(folder, AutoModelForSequenceClassification.from_config(made), byte_level_tokenizer(chat=False))


def change_config(folder: Path, **entries: Any) -> None:
    """Set entries of a model's config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **entries}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}), "utf-8")


def add_modules(
    folder: Path, *, transformer: Mapping[str, Any] | None = None, further: Sequence[str] = (), **model_config: Any
) -> None:
    """Write the files with which sentence-transformers saves a cross-encoder.

    transformer: the content of its sentence_bert_config.json.
    further: the types of modules behind the transformer.
    """
    kinds = ["sentence_transformers.base.modules.transformer.Transformer", *further]
    modules = [
        {"idx": index, "name": str(index), "path": "" if not index else f"{index}_Module", "type": kind}
        for index, kind in enumerate(kinds)
    ]
    transformer = {"transformer_task": "sequence-classification", **(transformer or {})}
    model_config = {"model_type": "CrossEncoder", **model_config}
    for name, content in (
        ("modules.json", modules),
        ("sentence_bert_config.json", transformer),
        ("config_sentence_transformers.json", model_config),
    ):
        (folder / name).write_text(json.dumps(content), "utf-8")


def load_reference(folder: Path) -> CrossEncoder:
    """Return sentence-transformers' own model, in float32 on the CPU."""
    return CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": "float32"}, local_files_only=True)


def tensor(numbers: Any) -> torch.Tensor:
    """Return the numbers as a tensor."""
    return torch.as_tensor(numbers)


def activation(name: str | None) -> Any:
    """Return an activation of torch by name; None = the model's own."""
    return None if name is None else getattr(torch.nn, name)()
