"""The options with which sentence-transformers loads a model's transformer, and which of them are not taken.

An option that changes what the model reads or computes is refused by name: without it the numbers would be others.
"""

from collections.abc import Mapping
from typing import Any

from models.errors import ModelError

# Keys whose objects are passed on to transformers.
OPTION_KEYS = (
    *("processing_kwargs", "model_kwargs", "processor_kwargs", "config_kwargs"),
    *("model_args", "tokenizer_args", "config_args"),  # as older versions call them
)
# Options that leave the numbers as they are, but for rounding. `dtype` and the like are set by the pipeline here.
HARMLESS_OPTIONS = frozenset(
    {"add_pooling_layer", "attn_implementation", "dtype", "low_cpu_mem_usage", "padding_side", "torch_dtype"}
    | {"trust_remote_code", "use_cache", "use_fast", "use_safetensors"}
)


def check_transformer(config: Mapping[str, Any], task: str, output_name: str) -> None:
    """Raise ModelError if the transformer's settings ask for what is not taken.

    task: that of sentence-transformers for which the model must be made.
    output_name: the output of the model that is used.
    """
    own_task = config.get("transformer_task", task)
    if own_task != task:
        raise ModelError(f"the model is made for {str(own_task)[:80]!r} (transformer_task), not for {task}")
    if (name := _find_unsupported_option(config)) is not None:
        raise ModelError(f"the model's files set {name}, which is not supported; take another model")
    modalities = config.get("modality_config")
    text = modalities.get("text") if isinstance(modalities, dict) else None
    if text is not None and text != {**_as_object(text), "method": "forward", "method_output_name": output_name}:
        raise ModelError(
            f"the model's files take another output than {output_name} (modality_config), which is not supported; take "
            "another model"
        )


def _find_unsupported_option(config: Mapping[str, Any]) -> str | None:
    for key in OPTION_KEYS:
        options = config.get(key)
        if options and not isinstance(options, dict):
            return key
        for name, value in (options or {}).items():
            if name not in HARMLESS_OPTIONS and value != {}:
                return f"{str(name)[:80]} in {key}"
    return None


def _as_object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
