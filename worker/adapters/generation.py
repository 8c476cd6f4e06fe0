"""Generation: what a batch's parameters come to for one model, and one run of `generate` over padded rows."""

import copy
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from models.errors import JobError
from models.tasks.decoding import Decoding
from worker.adapters import loop, sampling
from worker.adapters.base import Interrupted
from worker.adapters.company import ByRow

# What `generate` is told. The seed is ours, and two batches that differ only in it share their passes.
TOLD = frozenset(Decoding.model_fields) - {"seed"}

# These look at the tokens before the last one by their place; padding must not be among them.
LOOK_BACK = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias")


@dataclass(frozen=True, slots=True)
class Settings:
    """The given parameters on top of the model's generation config on top of the pipeline's defaults.

    `key` tells settings apart. `most` and `least` are new tokens; where they are None, `most_in_all` and `least_in_all`
    count the prompt too. Where `samples` is true and `beams` 1, `filters` shape the scores that tokens are drawn from.
    """

    config: GenerationConfig
    key: Hashable
    samples: bool
    beams: int
    sequences: int
    most: int | None
    least: int | None
    most_in_all: int
    least_in_all: int
    filters: LogitsProcessorList
    stops: StopStringCriteria | None

    @property
    def draws(self) -> bool:
        """Whether each token is drawn by itself, which takes noise."""
        return self.samples and self.beams == 1

    @property
    def unpadded(self) -> bool:
        """Whether padding would change what may be written."""
        return any(getattr(self.config, name, None) for name in LOOK_BACK)

    def new_tokens(self, prompt: int) -> tuple[int, int]:
        """The most and the fewest tokens to write behind a prompt of so many; the most may be 0 or less."""
        most = self.most_in_all - prompt if self.most is None else self.most
        least = max(0, self.least_in_all - prompt) if self.least is None else self.least
        return most, least


class Generation:
    """A pipeline's model, run with settings until it is interrupted."""

    def __init__(self, pipeline: Any, interrupt: Callable[[], bool]) -> None:
        self._pipeline = pipeline
        self._interruption = Interruption(interrupt)
        self._model = pipeline.model
        self._resolved = lru_cache(maxsize=256)(self._resolve)

    def settings(self, parameters: Mapping[str, Any]) -> Settings:
        """Raises JobError `invalid_parameters` where this model can't do what is asked for."""
        told = {name: value for name, value in parameters.items() if name in TOLD and value is not None}
        return self._resolved(json.dumps(told, sort_keys=True))

    def run(
        self, tensors: Mapping[str, torch.Tensor], settings: Settings, new_tokens: tuple[int, int],
        noise: np.ndarray[Any, np.dtype[np.float64]] | None = None, fixed: bool = False,
    ) -> list[list[list[int]] | None]:  # fmt: skip
        """The new tokens of each sequence of each row, up to its end; None for a row whose scores are not numbers.

        `tensors` are `(rows, width)`, padded on the left; `noise` is `(rows, most new tokens)` where settings draw.
        Rows that have ended leave, unless the shape is to stay `fixed`. Raises Interrupted.
        """
        rows, width = tensors["input_ids"].shape
        config = copy.copy(settings.config)
        config.max_new_tokens, config.min_new_tokens = new_tokens
        soundness = Soundness()
        processors: list[LogitsProcessor] = [soundness]
        if noise is not None:
            processors.append(sampling.Sampler(settings.filters, self._on_device(noise)))
        ends = Ends(settings.stops, width - tensors["attention_mask"].sum(dim=1)) if settings.stops else None
        written = self._model.generate(
            **tensors,
            generation_config=config,
            tokenizer=self._pipeline.tokenizer,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([self._interruption, *([ends] if ends else [])]),
            custom_generate=None if fixed else loop.handed_over(config),
        )
        new = written[:, width:].tolist()
        lengths = ends.lengths(width) if ends and settings.beams == 1 else [None] * len(new)
        whole = [self._up_to_end(ids[:length], config) for ids, length in zip(new, lengths, strict=True)]
        each = len(whole) // rows
        sound = soundness.of(rows)
        return [whole[row * each : (row + 1) * each] if sound[row] else None for row in range(rows)]

    def _resolve(self, document: str) -> Settings:
        told = json.loads(document)
        wanted = told.pop("num_return_sequences", None)
        try:
            resolved = self._pipeline._prepare_generate_kwargs(told)
            config = self._model._prepare_generation_config(None, **resolved)[0]
        except ValueError as error:
            raise JobError("invalid_parameters", f"the model does not take these parameters: {error}") from None
        return self._checked(config, document, wanted or config.num_return_sequences or 1)

    def _checked(self, config: GenerationConfig, document: str, sequences: int) -> Settings:
        samples, beams = bool(config.do_sample), config.num_beams or 1
        if sequences > beams and (beams > 1 or not samples):
            problem = f"num_return_sequences is {sequences}, num_beams {beams}"
            raise JobError("invalid_parameters", f"{problem}; for more sequences sample, or follow as many beams")
        if config.max_new_tokens is not None and (config.min_new_tokens or 0) > config.max_new_tokens:
            problem = f"min_new_tokens is {config.min_new_tokens}, max_new_tokens {config.max_new_tokens}"
            raise JobError("invalid_parameters", f"{problem}; raise one or lower the other")
        stops, prefix = config.stop_strings, self._pipeline._forward_params.get("prefix_length", 0)
        return Settings(
            config=self._config(config, sequences if beams > 1 else 1), key=document, samples=samples, beams=beams,
            sequences=sequences, most=config.max_new_tokens, least=config.min_new_tokens,
            most_in_all=config.max_length + prefix, least_in_all=config.min_length + prefix if config.min_length else 0,
            filters=sampling.filters(self._model, config),
            stops=StopStringCriteria(self._pipeline.tokenizer, stops) if stops else None,
        )  # fmt: skip

    def _config(self, config: GenerationConfig, sequences: int) -> GenerationConfig:
        mine = copy.deepcopy(config)
        # Tokens are drawn by a processor of ours, one by one; beams are left to transformers.
        mine.do_sample = bool(config.do_sample) and (config.num_beams or 1) > 1
        mine.num_return_sequences = sequences
        mine.stop_strings = None
        mine.return_dict_in_generate = mine.output_scores = mine.output_logits = False
        mine.output_attentions = mine.output_hidden_states = False
        # Rows that end early are filled up with it. An end's own token is told from what was written, whatever the
        # tokenizer pads with; and a model needs no padding token.
        ends = _ends(config)
        mine.pad_token_id = ends[0] if ends else config.pad_token_id or 0
        return mine

    def _up_to_end(self, ids: list[int], config: GenerationConfig) -> list[int]:
        ends = _ends(config)
        for place, token in enumerate(ids):
            if token in ends:
                return ids[: place + 1]
            if token < 0:  # no token: it fills up what has left the loop, and beams of a model without an end
                return ids[:place]
        return ids

    def _on_device(self, noise: np.ndarray[Any, np.dtype[np.float64]]) -> torch.Tensor:
        device = self._model.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.from_numpy(noise).to(dtype).to(device)


class Soundness(LogitsProcessor, ByRow):
    """Watches for scores that are not numbers, which would otherwise be taken for a choice."""

    def __init__(self) -> None:
        self._sound: torch.Tensor | None = None
        self._here: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        sound = scores.amax(dim=-1).isfinite()
        if self._sound is None or self._here is None:
            self._sound, self._here = sound, torch.arange(len(sound), device=sound.device)
        else:
            self._sound[self._here] &= sound
        return scores

    def keep(self, places: torch.Tensor) -> None:
        """What was seen of the others is kept, too."""
        assert self._here is not None
        self._here = self._here[places]

    def of(self, rows: int) -> list[bool]:
        """For each row, whether all scores of all its beams were numbers."""
        if self._sound is None:
            return [True] * rows
        sound: list[bool] = self._sound.view(rows, -1).all(dim=1).tolist()
        return sound


class Interruption(StoppingCriteria, ByRow):
    """Gives a run up between two tokens, when told to."""

    def __init__(self, interrupt: Callable[[], bool]) -> None:
        self._interrupt = interrupt

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Ends none of the sequences; raises Interrupted."""
        if self._interrupt():
            raise Interrupted
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def keep(self, places: torch.Tensor) -> None:
        """All rows are the same to it."""


class Ends(StoppingCriteria, ByRow):
    """Ends a sequence at a stop string, and keeps how long it was then.

    What stands in the place of the padding, `padding` tokens for each row, is hidden from the search.
    """

    def __init__(self, stops: StopStringCriteria, padding: torch.Tensor) -> None:
        self._stops = stops
        self._padding = padding
        self._lengths = torch.full_like(padding, 2**31 - 1)
        self._here = torch.arange(len(padding), device=padding.device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Booleans `(sequences,)`: which have ended."""
        each = input_ids.shape[0] // self._padding.shape[0]
        padding = self._padding.repeat_interleave(each)[:, None]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        # An id beyond every vocabulary is no text.
        done: torch.Tensor = self._stops(input_ids.masked_fill(places < padding, 2**31 - 1), scores)
        if each == 1:
            self._lengths[self._here[done]] = self._lengths[self._here[done]].clamp(max=input_ids.shape[1])
        return done

    def keep(self, places: torch.Tensor) -> None:
        """How long the others were is kept, too."""
        self._padding, self._here = self._padding[places], self._here[places]

    def lengths(self, width: int) -> list[int]:
        """How many new tokens each row, not of beams, had at its first stop string; a huge number if it had none."""
        lengths: list[int] = (self._lengths - width).tolist()
        return lengths


def _ends(config: GenerationConfig) -> list[int]:
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
