"""Generation: what a batch's parameters come to for one model, and one run of `generate` over padded rows."""

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StopStringCriteria
from transformers.generation import GenerationMode

from models.errors import JobError
from models.tasks.decoding import DecodingParameters
from worker.adapters.generation import continuous_batching, sampling
from worker.adapters.generation.continuous_batching import DecodeMicroBatch, PrefillGroup
from worker.adapters.generation.stopping import FiniteScoreCheck, GenerationHooks, InterruptCriteria, StopStringTracker
from worker.layers.model_state import ModelState

# What `generate` is told. The seed is ours, and two batches that differ only in it share their passes.
GENERATE_PARAMETERS = frozenset(DecodingParameters.model_fields) - {"seed"}

# These look at the tokens before the last one by their place; padding must not be among them.
POSITION_DEPENDENT = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias")

SINGLE_ROW_MODES = (GenerationMode.ASSISTED_GENERATION,)

# Rows enter when one place in so many is free: what they have read is put beside what the others keep, and both are
# copied for it.
REFILL_WHEN_ONE_IN = 4

Noise = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """The given parameters on top of the model's generation config on top of the pipeline's defaults.

    `key` tells settings apart. `most` and `least` are new tokens; where they are None, `most_in_all` and `least_in_all`
    count the prompt too. Where `samples` is true and `beams` 1, `filters` shape the scores that tokens are drawn from.
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
        """Whether each token is drawn by itself, which takes noise."""
        return self.do_sample and self.num_beams == 1

    @property
    def needs_single_row(self) -> bool:
        """Whether a run takes one row only: transformers draws beams from one generator for all, and guesses ahead for
        one text.
        """
        return (self.do_sample and not self.samples_per_token) or self.config.get_generation_mode() in SINGLE_ROW_MODES

    @property
    def forbids_padding(self) -> bool:
        """Whether padding would change what may be written."""
        return any(getattr(self.config, name, None) for name in POSITION_DEPENDENT)

    def new_token_limits(self, prompt_tokens: int) -> tuple[int, int]:
        """The most and the fewest tokens to write behind a prompt of so many; the most may be 0 or less."""
        most = self.max_total_tokens - prompt_tokens if self.max_new_tokens is None else self.max_new_tokens
        least = max(0, self.min_total_tokens - prompt_tokens) if self.min_new_tokens is None else self.min_new_tokens
        return most, least


@dataclass(frozen=True, slots=True)
class PrefillRows:
    """Rows that enter a run together: `tensors` are `(rows, width)`, padded on the left, `noise` as many new tokens."""

    rows: Sequence[Any]
    tensors: Mapping[str, torch.Tensor]
    noise: Noise | None

    @property
    def width(self) -> int:
        """What all are padded to."""
        return self.tensors["input_ids"].shape[1]


class CausalGenerator:
    """A pipeline's model, run with settings until it is interrupted."""

    def __init__(self, pipeline: Any, should_interrupt: Callable[[], bool], state: ModelState | None = None) -> None:
        """`state` is what the model is put back to before each run; None where it does not change."""
        self._pipeline = pipeline
        self._state = state
        self._interrupt_criteria = InterruptCriteria(should_interrupt)
        self._model = pipeline.model
        self._cached_settings = lru_cache(maxsize=256)(self._resolve_settings)

    def settings_for(self, parameters: Mapping[str, Any]) -> GenerationSettings:
        """Raises JobError `invalid_parameters` where this model can't do what is asked for."""
        told = {name: value for name, value in parameters.items() if name in GENERATE_PARAMETERS and value is not None}
        return self._cached_settings(json.dumps(told, sort_keys=True))

    def run(
        self,
        tensors: Mapping[str, torch.Tensor],
        settings: GenerationSettings,
        new_tokens: tuple[int, int],
        noise: Noise | None = None,
        fixed_shape: bool = False,
    ) -> list[list[list[int]] | None]:
        """The new tokens of each sequence of each row, up to its end; None for a row whose scores are not numbers.

        `tensors` are `(rows, width)`, padded on the left; `noise` is `(rows, most new tokens)` where settings draw.
        Rows that have ended leave, unless the shape is to stay `fixed`. Raises Interrupted.
        """
        self._restore_state()
        rows, width = tensors["input_ids"].shape
        watchers = self._make_hooks(tensors, settings)
        config = _with_new_token_limits(settings.config, new_tokens)
        writer = None if fixed_shape else continuous_batching.custom_generate_for(config)
        written = self._generate(tensors, settings, config, watchers, noise, writer)
        new, ends = written[:, width:].tolist(), watchers.stop_strings
        lengths = ends.lengths_at_stop(width) if ends and settings.num_beams == 1 else [None] * len(new)
        whole = [self._cut_at_end(ids[:length], config) for ids, length in zip(new, lengths, strict=True)]
        each = len(whole) // rows
        sound = watchers.finite_scores.finite_rows(rows)
        return [whole[row * each : (row + 1) * each] if sound[row] else None for row in range(rows)]

    def supports_continuous(self, settings: GenerationSettings) -> bool:
        """Whether rows may come and go with these settings."""
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
        """As `run`, of rows that enter as others leave; each comes back with what it came to.

        At most `places` rows are written at once; `more(count)` gives at most so many to enter, None when there are no
        others. Without `together` rows enter only when all others have left. Settings must not follow beams.
        """
        config = _with_new_token_limits(settings.config, new_tokens)
        crowd, entered = DecodeMicroBatch(self._model), dict[PrefillGroup, tuple[PrefillRows, GenerationHooks]]()
        while True:
            free = max_rows - len(crowd)
            pays = not crowd or (can_merge and crowd.accepts_new and free * REFILL_WHEN_ONE_IN >= max_rows)
            if left := crowd.pop_finished():
                for party, rows in left:
                    its, watchers = entered[party] if len(party) else entered.pop(party)
                    sound = watchers.finite_scores.finite_rows(len(its.rows))
                    yield [(its.rows[at], [ids[its.width :]] if sound[at] else None) for at, ids in rows]
            elif pays and (new := fetch_more(free)):
                if not crowd:
                    self._restore_state()
                watchers = self._make_hooks(new.tensors, settings)
                party = self._generate(new.tensors, settings, config, watchers, new.noise, PrefillGroup)
                if party.supports_row_removal:
                    crowd.add(party)
                    entered[party] = new, watchers
                else:
                    yield list(zip(new.rows, self.run(new.tensors, settings, new_tokens, new.noise), strict=True))
            elif crowd:
                crowd.decode_step()
            else:
                return

    def _restore_state(self) -> None:
        if self._state is not None:
            self._state.restore()

    def _make_hooks(self, tensors: Mapping[str, torch.Tensor], settings: GenerationSettings) -> GenerationHooks:
        padding = tensors["input_ids"].shape[1] - tensors["attention_mask"].sum(dim=1)
        ends = StopStringTracker(settings.stop_criteria, padding) if settings.stop_criteria else None
        return GenerationHooks(FiniteScoreCheck(), self._interrupt_criteria, ends)

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
            processors.append(sampling.Sampler(settings.filters, self._noise_to_device(noise)))
        return self._model.generate(
            **tensors,
            generation_config=config,
            tokenizer=self._pipeline.tokenizer,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=hooks.stopping_criteria,
            custom_generate=custom_generate,
        )

    def _resolve_settings(self, parameters_json: str) -> GenerationSettings:
        told = json.loads(parameters_json)
        wanted = told.pop("num_return_sequences", None)
        try:
            resolved = self._pipeline._prepare_generate_kwargs(told)
            config = self._model._prepare_generation_config(None, **resolved)[0]
            return self._build_settings(config, parameters_json, wanted or config.num_return_sequences or 1)
        except ValueError as error:
            raise JobError("invalid_parameters", f"the model does not take these parameters: {error}") from None

    def _build_settings(self, config: GenerationConfig, parameters_json: str, num_sequences: int) -> GenerationSettings:
        samples, beams = not sampling.is_greedy(config), config.num_beams or 1
        if num_sequences > beams and (beams > 1 or not samples):
            problem = f"num_return_sequences is {num_sequences}, num_beams {beams}"
            raise JobError("invalid_parameters", f"{problem}; for more sequences sample, or follow as many beams")
        if config.max_new_tokens is not None and (config.min_new_tokens or 0) > config.max_new_tokens:
            problem = f"min_new_tokens is {config.min_new_tokens}, max_new_tokens {config.max_new_tokens}"
            raise JobError("invalid_parameters", f"{problem}; raise one or lower the other")
        stops, prefix = config.stop_strings, self._pipeline._forward_params.get("prefix_length", 0)
        return GenerationSettings(
            config=self._generate_config(config, num_sequences if beams > 1 else 1),
            key=parameters_json,
            do_sample=samples,
            num_beams=beams,
            num_sequences=num_sequences,
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=config.min_new_tokens,
            max_total_tokens=config.max_length + prefix,
            min_total_tokens=config.min_length + prefix if config.min_length else 0,
            filters=sampling.filters_for(self._model, config),
            stop_criteria=StopStringCriteria(self._pipeline.tokenizer, stops) if stops else None,
        )

    def _generate_config(self, config: GenerationConfig, num_sequences: int) -> GenerationConfig:
        mine = copy.deepcopy(config)
        # Tokens are drawn by a processor of ours, one by one; beams are left to transformers.
        mine.do_sample = not sampling.is_greedy(config) and (config.num_beams or 1) > 1
        for name in sampling.FILTER_PARAMETERS:
            if sampling.is_filter_off(name, getattr(mine, name, None)):
                setattr(mine, name, None)
        mine.num_return_sequences = num_sequences
        mine.stop_strings = None
        mine.return_dict_in_generate = mine.output_scores = mine.output_logits = False
        mine.output_attentions = mine.output_hidden_states = False
        # Rows that end early are filled up with it. An end's own token is told from what was written, whatever the
        # tokenizer pads with; and a model needs no padding token.
        ends = _end_token_ids(config)
        mine.pad_token_id = ends[0] if ends else config.pad_token_id or 0
        return mine

    def _cut_at_end(self, ids: list[int], config: GenerationConfig) -> list[int]:
        ends = _end_token_ids(config)
        for place, token in enumerate(ids):
            if token in ends:
                return ids[: place + 1]
            if token < 0:  # no token: it fills up what has left the loop, and beams of a model without an end
                return ids[:place]
        return ids

    def _noise_to_device(self, noise: Noise) -> torch.Tensor:
        device = self._model.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.from_numpy(noise).to(dtype).to(device)


def _with_new_token_limits(config: GenerationConfig, new_tokens: tuple[int, int]) -> GenerationConfig:
    limited = copy.copy(config)
    limited.max_new_tokens, limited.min_new_tokens = new_tokens
    return limited


def _end_token_ids(config: GenerationConfig) -> list[int]:
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
