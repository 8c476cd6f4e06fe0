"""The generation settings of causal language models, resolved as transformers' own pipeline does."""

import copy
import json
from typing import Any

from transformers import GenerationConfig, StopStringCriteria
from transformers.generation import GenerationMode

from models.errors import JobError
from models.pipelines.options.generation_limits import GenerationLimits
from models.tasks.generation.decoding import DecodingParameters
from worker.adapters.control.output_schemas import OutputSchemas
from worker.adapters.generation import sampling
from worker.adapters.generation.call_settings.settings import (
    TEXT_ONLY_OUTPUT,
    GenerationSettings,
    SettingsResolver,
    TokenLimits,
    end_token_ids,
)

GENERATE_PARAMETERS = frozenset(DecodingParameters.model_fields) - {"seed"} | {"output_schema"}

# These read earlier tokens by position, so padding must not be among them.
POSITION_DEPENDENT = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias")


class CausalSettings(SettingsResolver):
    """Puts a batch's parameters on top of the model's generation config, on top of the pipeline's defaults.

    schemas: checks the parameter `output_schema` and compiles it.
    limits: what no parameter and no model exceeds, None = no limits.
    """

    def __init__(self, pipeline: Any, schemas: OutputSchemas, limits: GenerationLimits | None = None) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._schemas = schemas
        self._limits = limits

    def _is_used(self, name: str) -> bool:
        return name in GENERATE_PARAMETERS

    def _build(self, parameters: dict[str, Any]) -> GenerationSettings:
        key, model = json.dumps(parameters, sort_keys=True), self._pipeline.model
        num_sequences, schema = parameters.pop("num_return_sequences", None), parameters.pop("output_schema", None)
        generate_kwargs = self._pipeline._prepare_generate_kwargs(parameters)
        config = model._prepare_generation_config(None, **generate_kwargs)[0]
        num_sequences, num_beams = num_sequences or config.num_return_sequences or 1, config.num_beams or 1
        limits = self._limits
        if limits is not None:
            num_sequences = min(num_sequences, limits.max_return_sequences)
        do_sample = not sampling.is_greedy(config)
        generate_config = _generate_config(config, num_sequences if num_beams > 1 else 1)
        if schema is not None:
            self._check_schema(schema, generate_config)
        sampling.check_sequence_count(num_sequences, num_beams, do_sample=do_sample)
        if config.max_new_tokens is not None and (config.min_new_tokens or 0) > config.max_new_tokens:
            problem = f"min_new_tokens is {config.min_new_tokens}, max_new_tokens {config.max_new_tokens}"
            raise JobError("invalid_parameters", f"{problem}; raise one or lower the other")
        prefix_tokens = self._pipeline._forward_params.get("prefix_length", 0)
        return GenerationSettings(
            config=generate_config,
            key=key,
            do_sample=do_sample,
            num_beams=num_beams,
            num_sequences=num_sequences,
            filters=sampling.filters_for(model, config),
            stop_criteria=StopStringCriteria(self._pipeline.tokenizer, config.stop_strings)
            if config.stop_strings
            else None,
            forbids_padding=any(getattr(config, name, None) for name in POSITION_DEPENDENT),
            limits=TokenLimits(
                max_new=config.max_new_tokens,
                min_new=config.min_new_tokens,
                max_total=config.max_length + prefix_tokens,
                min_total=config.min_length + prefix_tokens if config.min_length else 0,
                cap=None if limits is None else limits.max_new_tokens,
            ),
            max_seconds=_shortest(config.max_time, None if limits is None else limits.max_time),
            schema=schema,
        )

    def _check_schema(self, schema: str, config: GenerationConfig) -> None:
        if config.get_generation_mode() is not GenerationMode.GREEDY_SEARCH:
            raise JobError("invalid_parameters", "output_schema takes no beams; set num_beams to 1")
        self._schemas.check(schema)


def _shortest(*seconds: float | None) -> float | None:
    return min((limit for limit in seconds if limit is not None), default=None)


def _generate_config(config: GenerationConfig, num_sequences: int) -> GenerationConfig:
    """Return a copy that leaves sampling, stop strings and outputs other than texts out of `generate`."""
    result = copy.deepcopy(config)
    # Our own processor draws single tokens; sampled beams are left to transformers.
    result.do_sample = not sampling.is_greedy(config) and (config.num_beams or 1) > 1
    for name in sampling.FILTER_PARAMETERS:
        if sampling.is_filter_off(name, getattr(result, name, None)):
            setattr(result, name, None)
    result.num_return_sequences = num_sequences
    result.stop_strings = result.max_time = None  # our own criteria watch them
    for name, value in TEXT_ONLY_OUTPUT.items():
        setattr(result, name, value)
    # Rows that end early are filled up with this token. With an end token, the text can be cut at its first one,
    # whatever the tokenizer pads with, and a model without a padding token works too.
    end_ids = end_token_ids(config)
    result.pad_token_id = end_ids[0] if end_ids else config.pad_token_id or 0
    return result
