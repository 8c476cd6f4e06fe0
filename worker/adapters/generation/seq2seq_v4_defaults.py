"""What transformers 4.57's summarization and translation pipelines set before they generate; 5.x has neither.

Sources, all of 4.57.6: `Pipeline.__init__`, the pipelines' `_default_generation_config`, and the two steps of
`generate` that settle a generation config and its lengths.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import GenerationConfig

PIPELINE_DEFAULTS = {"max_new_tokens": 256, "num_beams": 4}

# Generation configs written since this version also fill in whatever a given one leaves at the global default.
FILLS_IN_SINCE_VERSION = (4, 50)


@dataclass(frozen=True, slots=True)
class Seq2SeqDefaults:
    """How a model writes when a batch asks for nothing else.

    `task` is the name whose parameters the config holds: a bare "translation" takes the first translation there.
    `prefix` goes before every input. `settings` are those of a generation config, each said outright. `positions` is
    how many tokens the decoder can read, None where there is no end.
    """

    task: str
    prefix: str
    settings: Mapping[str, Any]
    max_positions: int | None

    @classmethod
    def from_model(cls, model: Any, tokenizer: Any, task: str) -> "Seq2SeqDefaults":
        """Read off a loaded model's config, its generation config and its tokenizer."""
        by_task = getattr(model.config, "task_specific_params", None) or {}
        if task == "translation":
            task = next((name for name in by_task if name.startswith(task)), task)
        specific = dict(by_task.get(task) or {})
        prefix = specific.pop("prefix", getattr(model.config, "prefix", None)) or ""
        settings = _resolve(model, specific)
        if settings["pad_token_id"] is None:
            settings["pad_token_id"] = tokenizer.pad_token_id
        return cls(task, prefix, settings, _max_positions(model))

    def with_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with the batch's own in them. Lengths are `max_length` and `min_length`, in the decoder's tokens
        with the one that it starts from.
        """
        settings = {**self.settings, **parameters}
        most, fewest = self._max_length(settings, parameters), settings["min_length"] or 0
        if settings["min_new_tokens"] is not None:
            fewest = settings["min_new_tokens"] + 1
        # Beyond the most, a minimum means the most; transformers would warn with every pass.
        lengths = {"max_length": most, "min_length": min(fewest, most)}
        return {**settings, **lengths, "max_new_tokens": None, "min_new_tokens": None}

    def _max_length(self, settings: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
        common = GenerationConfig._get_default_generation_params()["max_length"]
        if settings["max_new_tokens"] is not None:
            most = settings["max_new_tokens"] + 1
        elif "max_length" in parameters or settings["max_length"] != common:
            most = settings["max_length"]
        else:
            most = common + 1
        # 4.57 dies where the positions end. The last token written is not read, so it needs none.
        return int(most if self.max_positions is None else min(most, self.max_positions + 1))


def _resolve(model: Any, task_params: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline's own values; where it has none, the model's; over both, the task's.

    Then `generate` takes the model's once more for all that is the global default, whoever said so. Odd, but it decides
    what is written: a model's `num_beams` never counts, its `max_new_tokens` only beside a `max_length`.
    """
    common = GenerationConfig._get_default_generation_params()
    names = [name for name in vars(GenerationConfig()) if not name.startswith("_") and name != "transformers_version"]
    own = {**dict.fromkeys(names), **common, **_checkpoint_config(model)}
    settled = {**dict.fromkeys(own), **common, **PIPELINE_DEFAULTS}
    _fill_in(settled, own, common)
    if (
        settled["max_new_tokens"] == PIPELINE_DEFAULTS["max_new_tokens"]
        and settled["max_length"] != common["max_length"]
    ):
        settled["max_new_tokens"] = None
    settled.update({name: value for name, value in task_params.items() if name in settled})
    if _config_version(model.generation_config) >= FILLS_IN_SINCE_VERSION:
        _fill_in(settled, own, common)
    if settled["temperature"] == 0.0:
        settled["do_sample"] = False
    return settled


def _fill_in(settings: dict[str, Any], model_values: Mapping[str, Any], global_defaults: Mapping[str, Any]) -> None:
    for name, value in model_values.items():
        if settings[name] == global_defaults.get(name):
            settings[name] = value


def _checkpoint_config(model: Any) -> dict[str, Any]:
    """What the checkpoint says of writing. Before there were generation configs it stood in the model's config, partly
    as the defaults of its class, which 5.x no longer looks at.
    """
    config: GenerationConfig = model.generation_config
    said = {name: value for name, value in vars(config).items() if not name.startswith("_") and value is not None}
    said.pop("transformers_version", None)
    if config._from_model_config:
        tokens = ("bos", "eos", "pad", "decoder_start", "forced_bos", "forced_eos")
        values = {f"{name}_token_id": getattr(model.config, f"{name}_token_id", None) for name in tokens}
        said = {**{name: value for name, value in values.items() if value is not None}, **said}
    return said


def _config_version(config: GenerationConfig) -> tuple[int, ...]:
    if config._from_model_config or not config.transformers_version:
        return FILLS_IN_SINCE_VERSION  # 4.57 takes what no version wrote for its own
    return tuple(int(part) for part in re.findall(r"\d+", config.transformers_version)[:2])


def _max_positions(model: Any) -> int | None:
    """Where positions are a table; M2M100 and NLLB make more as they go, T5 counts distances."""
    decoder = model.get_decoder()
    table = getattr(decoder, "embed_positions", None)
    if table is None:  # an encoder turned decoder, such as BERT
        table = getattr(getattr(decoder.base_model, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    # BART's kin leave the first two unused, RoBERTa's all up to the padding's.
    unused = getattr(table, "offset", 0) if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - int(unused)
