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
        _check_chat_template(tokenizer)
        files = SentenceFiles.for_plain_model(model.config.to_dict())
    head = EmbeddingHead.load(files, folder, _token_size(model.config.get_text_config()))
    model.add_module(ADDED_HEAD, head.to(model.device))
    if files.lowercases:
        lower_texts(tokenizer)
    return files.max_length


def _check_chat_template(tokenizer: Any) -> None:
    if getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "the model has a chat template and no modules.json, so sentence-transformers would put each text into the "
            "template, which is not taken; name a model with the files of sentence-transformers"
        )


def _token_size(config: Any) -> int | None:
    """Numbers in the vector of a token, None = not known; some OPT models make them smaller at the end."""
    return getattr(config, "word_embed_proj_dim", None) or getattr(config, "hidden_size", None)


def head_of(model: Any) -> EmbeddingHead:
    """Return the head of a model; one without files pools by the mean."""
    head = getattr(model, ADDED_HEAD, None)
    return head if isinstance(head, EmbeddingHead) else EmbeddingHead(SentenceFiles())
