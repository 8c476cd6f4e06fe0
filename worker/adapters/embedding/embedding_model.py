"""Embedding models: the transformer without a task's head, and what its folder says beside it."""

from pathlib import Path
from typing import Any

from transformers import AutoModel, LongT5EncoderModel, MT5EncoderModel, T5EncoderModel, UMT5EncoderModel

from models.embedding.sentence_files import SentenceFiles
from models.errors import ModelError
from worker.adapters.embedding.head import EmbeddingHead
from worker.adapters.probes.small_copy import ADDED_HEAD
from worker.adapters.tokenization.letter_case import lower_texts

# Models of which only the encoder is loaded.
ENCODER_CLASSES = {"t5": T5EncoderModel, "mt5": MT5EncoderModel, "umt5": UMT5EncoderModel, "longt5": LongT5EncoderModel}
# Models of which sentence-transformers loads only the encoder, and which can't be loaded so here.
UNSUPPORTED_TYPES = frozenset(
    {"blenderbot", "blenderbot-small", "m2m_100", "marian", "moonshine", "pegasus", "pegasus_x", "prophetnet"}
    | {"switch_transformers", "t5gemma", "t5gemma2", "udop", "whisper"}
)
UNUSED_WEIGHTS = "pooler."  # of a layer over the first token, whose output no vector has


class AutoEmbeddingModel:
    """An auto class like those of transformers, for models that give the vectors of tokens."""

    @classmethod
    def from_pretrained(cls, folder: Path, *, config: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Load a model with its report, as `AutoModel.from_pretrained` does with `output_loading_info`."""
        if config.model_type in UNSUPPORTED_TYPES:
            raise ModelError(f"the encoder of a {config.model_type} model can't be loaded alone; take another model")
        model_class: Any = ENCODER_CLASSES.get(config.model_type, AutoModel)
        model, report = model_class.from_pretrained(folder, config=config, **options)
        model.config.use_cache = False  # keys and values of a text serve nobody afterwards
        missing = [name for name in report["missing_keys"] if not name.startswith(UNUSED_WEIGHTS)]
        return model, {**report, "missing_keys": missing}


def complete(model: Any, tokenizer: Any, folder: Path) -> int | None:
    """Give a model the head that its folder's files describe, and its tokenizer their case; returns their limit.

    Raises ModelError if they are damaged, or ask for what Batchmill does not have.
    """
    files = SentenceFiles.read(folder)
    if files is None:
        files = SentenceFiles.for_plain_model(model.config.to_dict())
    token_size = getattr(model.config.get_text_config(), "hidden_size", None)
    head = EmbeddingHead.load(files, folder, token_size)
    model.add_module(ADDED_HEAD, head.to(model.device))
    if files.lowercases:
        lower_texts(tokenizer)
    return files.max_length


def head_of(model: Any) -> EmbeddingHead:
    """Return the head of a model; one without files pools by the mean."""
    head = getattr(model, ADDED_HEAD, None)
    return head if isinstance(head, EmbeddingHead) else EmbeddingHead(SentenceFiles())
