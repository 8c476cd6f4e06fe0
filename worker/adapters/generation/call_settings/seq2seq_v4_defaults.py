"""The generation defaults of transformers 4.57's summarization and translation pipelines, which 5.x no longer has.

Sources, all of 4.57.6: `Pipeline.__init__`, the pipelines' `_default_generation_config`, and the two steps of
`generate` that resolve a generation config and its lengths.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import GenerationConfig

PIPELINE_DEFAULTS = {"max_new_tokens": 256, "num_beams": 4}

# From this version on, a model's generation config also replaces values that are still the global default.
FILLS_IN_SINCE_VERSION = (4, 50)

TOKEN_ID_NAMES = tuple(
    f"{name}_token_id" for name in ("bos", "eos", "pad", "decoder_start", "forced_bos", "forced_eos")
)


@dataclass(frozen=True, slots=True)
class Seq2SeqDefaults:
    """How a model generates when a batch sets no parameters.

    task: the name of the parameters in the model's config; "translation" resolves to the first translation there.
    prefix: text put before every input.
    settings: every field of a generation config, resolved.
    max_positions: tokens that the decoder can read, None = no limit.
    """

    task: str
    prefix: str
    settings: Mapping[str, Any]
    max_positions: int | None

    @classmethod
    def from_model(cls, model: Any, tokenizer: Any, task: str) -> "Seq2SeqDefaults":
        """Resolve the defaults of a loaded model from its config, its generation config and its tokenizer."""
        params_by_task = getattr(model.config, "task_specific_params", None) or {}
        if task == "translation":
            task = next((name for name in params_by_task if name.startswith(task)), task)
        task_params = dict(params_by_task.get(task) or {})
        prefix = task_params.pop("prefix", getattr(model.config, "prefix", None)) or ""
        settings = _resolve(model, task_params)
        if settings["pad_token_id"] is None:
            settings["pad_token_id"] = tokenizer.pad_token_id
        return cls(task, prefix, settings, _max_positions(model))

    def with_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings with a batch's parameters applied.

        Lengths are returned as `max_length` and `min_length`, in decoder tokens including the start token.
        """
        settings = {**self.settings, **parameters}
        max_length, min_length = self._max_length(settings, parameters), settings["min_length"] or 0
        if settings["min_new_tokens"] is not None:
            min_length = settings["min_new_tokens"] + 1
        # transformers would warn in every pass about a minimum above the maximum.
        lengths = {"max_length": max_length, "min_length": min(min_length, max_length)}
        return {**settings, **lengths, "max_new_tokens": None, "min_new_tokens": None}

    def _max_length(self, settings: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
        global_default = GenerationConfig._get_default_generation_params()["max_length"]
        if settings["max_new_tokens"] is not None:
            max_length = settings["max_new_tokens"] + 1
        elif "max_length" in parameters or settings["max_length"] != global_default:
            max_length = settings["max_length"]
        else:
            max_length = global_default + 1
        # 4.57 raises past the last position. The final token is never read, so it needs no position.
        return int(max_length if self.max_positions is None else min(max_length, self.max_positions + 1))


def _resolve(model: Any, task_params: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the pipeline's values, the model's, and the task's, which win over both.

    After that, `generate` in 4.57 replaces every value equal to the global default with the model's, even one that was
    set explicitly. Hence a model's `num_beams` never counts, and its `max_new_tokens` only beside a `max_length`.
    """
    global_defaults = GenerationConfig._get_default_generation_params()
    names = [name for name in vars(GenerationConfig()) if not name.startswith("_") and name != "transformers_version"]
    model_values = {**dict.fromkeys(names), **global_defaults, **_checkpoint_config(model)}
    settings = {**dict.fromkeys(model_values), **global_defaults, **PIPELINE_DEFAULTS}
    _fill_in(settings, model_values, global_defaults)
    if (
        settings["max_new_tokens"] == PIPELINE_DEFAULTS["max_new_tokens"]
        and settings["max_length"] != global_defaults["max_length"]
    ):
        settings["max_new_tokens"] = None
    settings.update({name: value for name, value in task_params.items() if name in settings})
    if _config_version(model.generation_config) >= FILLS_IN_SINCE_VERSION:
        _fill_in(settings, model_values, global_defaults)
    if settings["temperature"] == 0.0:
        settings["do_sample"] = False
    return settings


def _fill_in(settings: dict[str, Any], model_values: Mapping[str, Any], global_defaults: Mapping[str, Any]) -> None:
    for name, value in model_values.items():
        if settings[name] == global_defaults.get(name):
            settings[name] = value


def _checkpoint_config(model: Any) -> dict[str, Any]:
    """Return the generation values of the checkpoint.

    Before generation configs existed, they were part of the model's config, some of them as defaults of its class,
    which 5.x no longer reads.
    """
    config: GenerationConfig = model.generation_config
    values = {name: value for name, value in vars(config).items() if not name.startswith("_") and value is not None}
    values.pop("transformers_version", None)
    if config._from_model_config:
        token_ids = {name: getattr(model.config, name, None) for name in TOKEN_ID_NAMES}
        values = {**{name: value for name, value in token_ids.items() if value is not None}, **values}
    return values


def _config_version(config: GenerationConfig) -> tuple[int, ...]:
    if config._from_model_config or not config.transformers_version:
        return FILLS_IN_SINCE_VERSION  # 4.57 treats a config without a version as a current one
    return tuple(int(part) for part in re.findall(r"\d+", config.transformers_version)[:2])


def _max_positions(model: Any) -> int | None:
    """Return the size of the decoder's position table, None without one (M2M100, NLLB and T5 compute positions)."""
    decoder = model.get_decoder()
    table = getattr(decoder, "embed_positions", None)
    if table is None:  # an encoder used as a decoder, such as BERT
        table = getattr(getattr(decoder.base_model, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    # Models like BART never use the first two positions, models like RoBERTa none up to the padding's.
    unused = getattr(table, "offset", 0) if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - int(unused)
