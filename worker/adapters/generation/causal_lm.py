"""Generation with causal language models: a batch's parameters resolved for one model, and runs of `generate`."""

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StopStringCriteria
from transformers.generation import GenerationMode

from models.errors import JobError
from models.tasks.decoding import DecodingParameters
from worker.adapters.generation import continuous_batching, sampling
from worker.adapters.generation.continuous_batching import DecodeMicroBatch, PrefillGroup
from worker.adapters.generation.sampling import Noise
from worker.adapters.generation.stopping import FiniteScoreCheck, GenerationHooks, InterruptCriteria, StopStringTracker
from worker.layers.model_state import ModelState

# The seed is for our own sampler; batches that differ only in their seeds share forward passes.
GENERATE_PARAMETERS = frozenset(DecodingParameters.model_fields) - {"seed"}

# These read earlier tokens by position, so padding must not be among them.
POSITION_DEPENDENT = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias")

SINGLE_ROW_MODES = (GenerationMode.ASSISTED_GENERATION,)

# Rows join when one place in so many is free. Joining copies the caches of the new rows and of those that continue.
REFILL_WHEN_ONE_IN = 4


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """A batch's parameters on top of the model's generation config, on top of the pipeline's defaults.

    key: equal for settings that may share a pass.
    max_new_tokens, min_new_tokens: None = the `total` limits apply, which include the prompt.
    filters: what shapes the scores before a token is drawn; used when `samples_per_token`.
    """

    config: GenerationConfig
    key: Hashable
    do_sample: bool
    num_beams: int
    num_sequences: int
    max_new_tokens: int | None
    min_new_tokens: int | None
    max_total_tokens: int
    min_total_tokens: int
    filters: LogitsProcessorList
    stop_criteria: StopStringCriteria | None

    @property
    def samples_per_token(self) -> bool:
        """Whether each token is drawn separately, which takes noise."""
        return self.do_sample and self.num_beams == 1

    @property
    def needs_single_row(self) -> bool:
        """Whether a run takes one row only.

        transformers draws sampled beams of all rows from one generator, and assists the generation of one text.
        """
        return (self.do_sample and not self.samples_per_token) or self.config.get_generation_mode() in SINGLE_ROW_MODES

    @property
    def forbids_padding(self) -> bool:
        """Whether padding would change the output."""
        return any(getattr(self.config, name, None) for name in POSITION_DEPENDENT)

    def new_token_limits(self, prompt_tokens: int) -> tuple[int, int]:
        """Return the most and the fewest new tokens after a prompt of this length; the most may be 0 or less."""
        most = self.max_total_tokens - prompt_tokens if self.max_new_tokens is None else self.max_new_tokens
        fewest = max(0, self.min_total_tokens - prompt_tokens) if self.min_new_tokens is None else self.min_new_tokens
        return most, fewest


@dataclass(frozen=True, slots=True)
class PrefillRows:
    """Rows that join a run together.

    tensors: `(rows, width)`, padded on the left.
    noise: `(rows, new tokens)`, None = nothing is sampled.
    """

    rows: Sequence[Any]
    tensors: Mapping[str, torch.Tensor]
    noise: Noise | None

    @property
    def width(self) -> int:
        """The width that every row is padded to."""
        return self.tensors["input_ids"].shape[1]


class CausalGenerator:
    """Runs the model of a text generation pipeline."""

    def __init__(self, pipeline: Any, should_interrupt: Callable[[], bool], state: ModelState | None = None) -> None:
        """`state` is restored before each run, None = the model has no state that changes."""
        self._pipeline = pipeline
        self._state = state
        self._interrupt_criteria = InterruptCriteria(should_interrupt)
        self._model = pipeline.model
        self._cached_settings = lru_cache(maxsize=256)(self._resolve_settings)

    def settings_for(self, parameters: Mapping[str, Any]) -> GenerationSettings:
        """Return the settings for a batch's parameters.

        Raises JobError `invalid_parameters` when this model does not support them.
        """
        params = {
            name: value for name, value in parameters.items() if name in GENERATE_PARAMETERS and value is not None
        }
        return self._cached_settings(json.dumps(params, sort_keys=True))

    def run(
        self,
        tensors: Mapping[str, torch.Tensor],
        settings: GenerationSettings,
        new_tokens: tuple[int, int],
        noise: Noise | None = None,
        fixed_shape: bool = False,
    ) -> list[list[list[int]] | None]:
        """Return each row's sequences of new tokens, up to their ends; None for a row with non-finite scores.

        tensors: `(rows, width)`, padded on the left.
        new_tokens: the most and the fewest.
        noise: `(rows, most new tokens)`, None = nothing is sampled.
        fixed_shape: keep rows that have ended in the pass.

        Raises Interrupted.
        """
        self._restore_state()
        rows, width = tensors["input_ids"].shape
        hooks = self._make_hooks(tensors, settings)
        config = _with_new_token_limits(settings.config, new_tokens)
        custom_generate = None if fixed_shape else continuous_batching.custom_generate_for(config)
        ids = self._generate(tensors, settings, config, hooks, noise, custom_generate)[:, width:].tolist()
        tracker = hooks.stop_strings
        lengths = tracker.lengths_at_stop(width) if tracker and settings.num_beams == 1 else [None] * len(ids)
        sequences = [_cut_at_end(row[:length], config) for row, length in zip(ids, lengths, strict=True)]
        per_row = len(sequences) // rows
        finite = hooks.finite_scores.finite_rows(rows)
        return [sequences[row * per_row : (row + 1) * per_row] if finite[row] else None for row in range(rows)]

    def supports_continuous(self, settings: GenerationSettings) -> bool:
        """Whether rows can leave and join a run with these settings."""
        return continuous_batching.custom_generate_for(settings.config) is continuous_batching.generate_greedy

    def generate_continuous(
        self,
        settings: GenerationSettings,
        new_tokens: tuple[int, int],
        max_rows: int,
        fetch_more: Callable[[int], PrefillRows | None],
        *,
        can_merge: bool,
    ) -> Iterator[list[tuple[Any, list[list[int]] | None]]]:
        """Yield rows with their output, as in `run`, when they end; others join in their place. Not for beam search.

        max_rows: the most rows at once.
        fetch_more: returns at most this many rows to join, None = there are no more.
        can_merge: whether rows may join before all others have left.
        """
        config = _with_new_token_limits(settings.config, new_tokens)
        micro_batch = DecodeMicroBatch(self._model)
        prefills: dict[PrefillGroup, tuple[PrefillRows, GenerationHooks]] = {}
        while True:
            free = max_rows - len(micro_batch)
            can_refill = can_merge and micro_batch.accepts_new and free * REFILL_WHEN_ONE_IN >= max_rows
            if finished := micro_batch.pop_finished():
                for group, rows in finished:
                    prefill, hooks = prefills[group] if len(group) else prefills.pop(group)
                    finite = hooks.finite_scores.finite_rows(len(prefill.rows))
                    yield [(prefill.rows[row], [ids[prefill.width :]] if finite[row] else None) for row, ids in rows]
            elif (can_refill or not micro_batch) and (joining := fetch_more(free)):
                if not micro_batch:
                    self._restore_state()
                hooks = self._make_hooks(joining.tensors, settings)
                group = self._generate(joining.tensors, settings, config, hooks, joining.noise, PrefillGroup)
                if group.supports_row_removal:
                    micro_batch.add(group)
                    prefills[group] = joining, hooks
                else:
                    outputs = self.run(joining.tensors, settings, new_tokens, joining.noise)
                    yield list(zip(joining.rows, outputs, strict=True))
            elif micro_batch:
                micro_batch.decode_step()
            else:
                return

    def _restore_state(self) -> None:
        if self._state is not None:
            self._state.restore()

    def _make_hooks(self, tensors: Mapping[str, torch.Tensor], settings: GenerationSettings) -> GenerationHooks:
        padding = tensors["input_ids"].shape[1] - tensors["attention_mask"].sum(dim=1)
        tracker = StopStringTracker(settings.stop_criteria, padding) if settings.stop_criteria else None
        return GenerationHooks(FiniteScoreCheck(), self._interrupt_criteria, tracker)

    def _generate(
        self,
        tensors: Mapping[str, torch.Tensor],
        settings: GenerationSettings,
        config: GenerationConfig,
        hooks: GenerationHooks,
        noise: Noise | None,
        custom_generate: Callable[..., Any] | None,
    ) -> Any:
        processors: list[LogitsProcessor] = [hooks.finite_scores]
        if noise is not None:
            processors.append(sampling.Sampler(settings.filters, sampling.to_device(noise, self._model.device)))
        return self._model.generate(
            **tensors,
            generation_config=config,
            tokenizer=self._pipeline.tokenizer,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=hooks.stopping_criteria,
            custom_generate=custom_generate,
        )

    def _resolve_settings(self, parameters_json: str) -> GenerationSettings:
        params = json.loads(parameters_json)
        num_sequences = params.pop("num_return_sequences", None)
        try:
            generate_kwargs = self._pipeline._prepare_generate_kwargs(params)
            config = self._model._prepare_generation_config(None, **generate_kwargs)[0]
            return self._build_settings(config, parameters_json, num_sequences or config.num_return_sequences or 1)
        except ValueError as error:
            raise JobError("invalid_parameters", f"the model does not take these parameters: {error}") from None

    def _build_settings(self, config: GenerationConfig, parameters_json: str, num_sequences: int) -> GenerationSettings:
        do_sample, num_beams = not sampling.is_greedy(config), config.num_beams or 1
        sampling.check_sequence_count(num_sequences, num_beams, do_sample=do_sample)
        if config.max_new_tokens is not None and (config.min_new_tokens or 0) > config.max_new_tokens:
            problem = f"min_new_tokens is {config.min_new_tokens}, max_new_tokens {config.max_new_tokens}"
            raise JobError("invalid_parameters", f"{problem}; raise one or lower the other")
        stop_strings = config.stop_strings
        prefix_tokens = self._pipeline._forward_params.get("prefix_length", 0)
        return GenerationSettings(
            config=_generate_config(config, num_sequences if num_beams > 1 else 1),
            key=parameters_json,
            do_sample=do_sample,
            num_beams=num_beams,
            num_sequences=num_sequences,
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=config.min_new_tokens,
            max_total_tokens=config.max_length + prefix_tokens,
            min_total_tokens=config.min_length + prefix_tokens if config.min_length else 0,
            filters=sampling.filters_for(self._model, config),
            stop_criteria=StopStringCriteria(self._pipeline.tokenizer, stop_strings) if stop_strings else None,
        )


def _generate_config(config: GenerationConfig, num_sequences: int) -> GenerationConfig:
    """Return a copy that leaves sampling, stop strings and outputs other than texts out of `generate`."""
    result = copy.deepcopy(config)
    # Our own processor draws single tokens; sampled beams are left to transformers.
    result.do_sample = not sampling.is_greedy(config) and (config.num_beams or 1) > 1
    for name in sampling.FILTER_PARAMETERS:
        if sampling.is_filter_off(name, getattr(result, name, None)):
            setattr(result, name, None)
    result.num_return_sequences = num_sequences
    result.stop_strings = None
    result.return_dict_in_generate = result.output_scores = result.output_logits = False
    result.output_attentions = result.output_hidden_states = False
    # Rows that end early are filled up with this token. With an end token, the text can be cut at its first one,
    # whatever the tokenizer pads with, and a model without a padding token works too.
    end_ids = _end_token_ids(config)
    result.pad_token_id = end_ids[0] if end_ids else config.pad_token_id or 0
    return result


def _cut_at_end(ids: list[int], config: GenerationConfig) -> list[int]:
    end_ids = _end_token_ids(config)
    for index, token in enumerate(ids):
        if token in end_ids:
            return ids[: index + 1]
        if token < 0:  # NO_TOKEN, or the filler after a beam of a model without an end token
            return ids[:index]
    return ids


def _with_new_token_limits(config: GenerationConfig, new_tokens: tuple[int, int]) -> GenerationConfig:
    limited = copy.copy(config)
    limited.max_new_tokens, limited.min_new_tokens = new_tokens
    return limited


def _end_token_ids(config: GenerationConfig) -> list[int]:
    end_ids = config.eos_token_id
    return [] if end_ids is None else [end_ids] if isinstance(end_ids, int) else list(end_ids)
