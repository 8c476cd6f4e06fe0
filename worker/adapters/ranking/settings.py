"""A cross-encoder's own settings, read from its files as `sentence_transformers.CrossEncoder` 6.2 reads them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from models.errors import ModelError

Floats = npt.NDArray[np.float32]
Activation = Callable[[torch.Tensor], torch.Tensor]

MODULES_FILE, MODEL_FILE = "modules.json", "config_sentence_transformers.json"
TRANSFORMER_FILE = "sentence_bert_config.json"
CROSS_ENCODER = "CrossEncoder"
MAX_FILE_BYTES = 4 << 20  # a larger file is no configuration

# The activations of torch that take no arguments and look at one number at a time.
ACTIVATION_NAMES = (
    *("CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid", "Mish"),
    *("ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh", "Tanhshrink"),
)
DEFAULT_ACTIVATION, NO_ACTIVATION = "Sigmoid", "Identity"
FUNCTIONS = {"sigmoid": DEFAULT_ACTIVATION, "none": NO_ACTIVATION}

# Keys of a module's file that would change what the model reads or how it is loaded.
UNSUPPORTED_KEYS = (
    *("processing_kwargs", "model_kwargs", "processor_kwargs", "config_kwargs"),
    *("model_args", "tokenizer_args", "config_args"),  # as older versions call them
)


@dataclass(frozen=True, slots=True)
class RankerSettings:
    """What a cross-encoder's files say beside its weights.

    activation: the name of the torch module that turns its numbers into scores.
    prompt: the text before each query.
    max_length: tokens of the longest pair, None = the tokenizer's limit.
    lowers_case: whether texts are put into lower case.
    """

    activation: str = DEFAULT_ACTIVATION
    prompt: str = ""
    max_length: int | None = None
    lowers_case: bool = False

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any], chat_template: object) -> Self:
        """Read the settings of a loaded model.

        folder: its files.
        config: the content of its config.json.
        chat_template: that of its tokenizer, if it has any.

        Raises ModelError if sentence-transformers would compute something else than this product does.
        """
        model_config, modules = _read_object(folder / MODEL_FILE), _read_json(folder / MODULES_FILE)
        if modules is None or model_config.get("model_type") != CROSS_ENCODER:
            # Other files of sentence-transformers describe another kind of model, and are not read either.
            _check_chat_template(chat_template)
            return cls(_find_activation({}, config))
        transformer = _read_transformer(folder, modules, chat_template)
        max_length = transformer.get("max_seq_length")
        if max_length is not None and (type(max_length) is not int or max_length < 1):
            raise ModelError(f"max_seq_length is {str(max_length)[:80]!r} in {TRANSFORMER_FILE}; mend it")
        return cls(
            _find_activation(model_config, config),
            _find_prompt(model_config),
            max_length,
            transformer.get("do_lower_case") is True,
        )


def activate(logits: Floats, activation: str) -> Floats:
    """Return the scores of these numbers, each of which depends on its number alone.

    In double precision, because torch rounds a float32 in the middle of an array otherwise than one at its end.
    """
    if activation == NO_ACTIVATION:
        return logits
    function: Activation = getattr(torch.nn, activation)()
    scores: Floats = function(torch.from_numpy(logits.astype(np.float64))).numpy().astype(np.float32)
    return scores


def _find_activation(model_config: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the activation of the first file that names one, in the order of sentence-transformers."""
    nested = config.get("sentence_transformers")
    if isinstance(nested, dict) and "activation_fn" in nested:
        fallback = nested["activation_fn"]
    else:
        fallback = config.get("sbert_ce_default_activation_function")
    path = model_config.get("activation_fn") or fallback
    if path is None:
        return DEFAULT_ACTIVATION
    name = str(path).rpartition(".")[2]
    if not str(path).startswith("torch.nn.") or name not in ACTIVATION_NAMES:
        raise ModelError(
            f"the model's activation function {str(path)[:80]!r} is unknown here; take another model, or a copy whose "
            f"config names one of {', '.join(ACTIVATION_NAMES)} of torch.nn"
        )
    return name


def _find_prompt(model_config: Mapping[str, Any]) -> str:
    name, prompts = model_config.get("default_prompt_name"), model_config.get("prompts")
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name, 0), str | None):
        raise ModelError(f"{MODEL_FILE} has no prompt of the name that is its default_prompt_name; mend it")
    return prompts[name] or ""


def _read_transformer(folder: Path, modules: object, chat_template: object) -> dict[str, Any]:
    """Return the settings of the only module. Raises ModelError unless it is a transformer that scores a pair."""
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{MODULES_FILE} is not a list of modules; mend it")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    if unknown := [kind for index, kind in enumerate(kinds) if index or kind != "Transformer"]:
        raise ModelError(
            f"the model's module {unknown[0][:80]!r} is not supported; name a cross-encoder whose scores come from a "
            "head for sequence classification"
        )
    transformer = _read_object(_module_folder(folder, modules[0]) / TRANSFORMER_FILE)
    task = transformer.get("transformer_task", "sequence-classification")
    if task != "sequence-classification":
        raise ModelError(f"the model's transformer does {str(task)[:80]!r}, not sequence-classification")
    if unsupported := next((key for key in UNSUPPORTED_KEYS if transformer.get(key)), None):
        raise ModelError(f"{TRANSFORMER_FILE} sets {unsupported}, which is not supported; take another model")
    modalities = transformer.get("modality_config")
    if isinstance(modalities, dict) and "message" in modalities:
        _check_chat_template(chat_template)
    return transformer


def _module_folder(folder: Path, entry: Mapping[str, Any]) -> Path:
    path = PurePosixPath(str(entry.get("path", "")))
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"{MODULES_FILE} points outside of the model's folder; that is refused")
    return folder / path


def _check_chat_template(template: object) -> None:
    """Raise ModelError if sentence-transformers would put the pair into a chat template.

    It refuses templates without the roles of a pair, such as those of chat models: their pairs are read as they are.
    """
    text = template if isinstance(template, str) else json.dumps(template) if template else ""
    if "query" in text and "document" in text:
        raise ModelError(
            "the model reads a pair through a chat template with the roles query and document, which is not supported; "
            "take a copy without the template, or another model"
        )


def _read_object(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    if content is not None and not isinstance(content, dict):
        raise ModelError(f"{path.name} is not an object; mend it")
    return content or {}


def _read_json(path: Path) -> Any:
    """Return the content of a JSON file, None = there is no such file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path.name} has more than {MAX_FILE_BYTES >> 20} MiB, which no configuration has")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise ModelError(f"{path.name} can't be read; mend it") from None
