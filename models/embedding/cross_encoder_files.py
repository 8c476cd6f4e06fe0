"""A cross-encoder's own settings, read from its files as `sentence_transformers.CrossEncoder` 6.2 reads them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from models.embedding import transformer_options
from models.embedding.activations import ACTIVATION_NAMES, find_activation
from models.embedding.json_files import read_json, read_object
from models.embedding.sentence_files import (
    MODULES_FILE,
    PROMPTS_FILE,
    module_name,
    module_path,
    optional_count,
    read_prompts,
    read_transformer_config,
)
from models.errors import ModelError

CROSS_ENCODER = "CrossEncoder"
TASK = "sequence-classification"

DEFAULT_ACTIVATION, NO_ACTIVATION = "Sigmoid", "Identity"
FUNCTIONS = {"sigmoid": DEFAULT_ACTIVATION, "none": NO_ACTIVATION}  # by `function_to_apply`


@dataclass(frozen=True, slots=True)
class CrossEncoderFiles:
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
    def read(cls, folder: Path, config: Mapping[str, Any], chat_template: object = None) -> Self:
        """Read the files in a model's folder.

        config: the content of its config.json.
        chat_template: that of its tokenizer, if it has any.

        Raises ModelError if sentence-transformers would compute something else than this product does.
        """
        model_config, modules = read_object(folder / PROMPTS_FILE), read_json(folder / MODULES_FILE)
        if modules is None or model_config.get("model_type") != CROSS_ENCODER:
            # Other files of sentence-transformers describe another kind of model, and are not read either.
            _check_chat_template(chat_template)
            return cls(_find_activation({}, config))
        transformer = _read_transformer(folder, modules, chat_template)
        return cls(
            _find_activation(model_config, config),
            _find_prompt(model_config),
            optional_count(transformer, "max_seq_length"),
            transformer.get("do_lower_case") is True,
        )


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
    name = find_activation(path)
    if name is None:
        raise ModelError(
            f"the model's activation function {str(path)[:80]!r} is unknown here; take another model, or a copy whose "
            f"config names one of {', '.join(ACTIVATION_NAMES)} of torch.nn"
        )
    return name


def _find_prompt(model_config: Mapping[str, Any]) -> str:
    name, prompts = model_config.get("default_prompt_name"), read_prompts(model_config)
    if name is None:
        return ""
    if name not in prompts:
        raise ModelError(f"{PROMPTS_FILE} has no prompt of the name that is its default_prompt_name; mend it")
    return prompts[name]


def _read_transformer(folder: Path, modules: object, chat_template: object) -> dict[str, Any]:
    """Return the settings of the only module. Raises ModelError unless it is a transformer that scores a pair."""
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{MODULES_FILE} is not a list of modules; mend it")
    names = [module_name(module.get("type")) for module in modules]
    if unknown := [name for index, name in enumerate(names) if index or name != "Transformer"]:
        raise ModelError(
            f"{MODULES_FILE} has the module {unknown[0]!r}, which is not supported; name a cross-encoder whose scores "
            "come from a head for sequence classification"
        )
    transformer = read_transformer_config(folder / module_path(modules[0].get("path")))
    transformer_options.check_transformer(transformer, TASK, "logits")
    modalities = transformer.get("modality_config")
    if isinstance(modalities, dict) and "message" in modalities:
        _check_chat_template(chat_template)
    return transformer


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
