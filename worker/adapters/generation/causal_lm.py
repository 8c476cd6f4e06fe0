"""Generation: what a batch's parameters come to for one model, and one run of `generate` over padded rows."""

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StopStringCriteria,
)
from transformers.generation import GenerationMode

from models.errors import JobError
from models.tasks.decoding import Decoding
from worker.adapters.generation import continuous_batching, sampling
from worker.adapters.generation.continuous_batching import Crowd, Party
from worker.adapters.generation.stopping import Ends, Interruption, Soundness, Watchers
from worker.layers.model_state import ModelState

# What `generate` is told. The seed is ours, and two batches that differ only in it share their passes.
TOLD = frozenset(Decoding.model_fields) - {"seed"}

# These look at the tokens before the last one by their place; padding must not be among them.
LOOK_BACK = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias")

ONE_ROW = (GenerationMode.ASSISTED_GENERATION,)

# Rows enter when one place in so many is free: what they have read is put beside what the others keep, and both are
# copied for it.
ENTER_AT = 4

Noise = np.ndarray[Any, np.dtype[np.float64]]


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
    def alone(self) -> bool:
        """Whether a run takes one row only: transformers draws beams from one generator for all, and guesses ahead for
        one text.
        """
        return (self.samples and not self.draws) or self.config.get_generation_mode() in ONE_ROW

    @property
    def unpadded(self) -> bool:
        """Whether padding would change what may be written."""
        return any(getattr(self.config, name, None) for name in LOOK_BACK)

    def new_tokens(self, prompt: int) -> tuple[int, int]:
        """The most and the fewest tokens to write behind a prompt of so many; the most may be 0 or less."""
        most = self.most_in_all - prompt if self.most is None else self.most
        least = max(0, self.least_in_all - prompt) if self.least is None else self.least
        return most, least


@dataclass(frozen=True, slots=True)
class Entering:
    """Rows that enter a run together: `tensors` are `(rows, width)`, padded on the left, `noise` as many new tokens."""

    rows: Sequence[Any]
    tensors: Mapping[str, torch.Tensor]
    noise: Noise | None

    @property
    def width(self) -> int:
        """What all are padded to."""
        return self.tensors["input_ids"].shape[1]


class Generation:
    """A pipeline's model, run with settings until it is interrupted."""

    def __init__(self, pipeline: Any, interrupt: Callable[[], bool], state: ModelState | None = None) -> None:
        """`state` is what the model is put back to before each run; None where it does not change."""
        self._pipeline = pipeline
        self._state = state
        self._interruption = Interruption(interrupt)
        self._model = pipeline.model
        self._resolved = lru_cache(maxsize=256)(self._resolve)

    def settings(self, parameters: Mapping[str, Any]) -> Settings:
        """Raises JobError `invalid_parameters` where this model can't do what is asked for."""
        told = {name: value for name, value in parameters.items() if name in TOLD and value is not None}
        return self._resolved(json.dumps(told, sort_keys=True))

    def run(
        self, tensors: Mapping[str, torch.Tensor], settings: Settings, new_tokens: tuple[int, int],
        noise: Noise | None = None, fixed: bool = False,
    ) -> list[list[list[int]] | None]:  # fmt: skip
        """The new tokens of each sequence of each row, up to its end; None for a row whose scores are not numbers.

        `tensors` are `(rows, width)`, padded on the left; `noise` is `(rows, most new tokens)` where settings draw.
        Rows that have ended leave, unless the shape is to stay `fixed`. Raises Interrupted.
        """
        self._put_back()
        rows, width = tensors["input_ids"].shape
        watchers = self._watchers(tensors, settings)
        config = _limited(settings.config, new_tokens)
        writer = None if fixed else continuous_batching.handed_over(config)
        written = self._generate(tensors, settings, config, watchers, noise, writer)
        new, ends = written[:, width:].tolist(), watchers.ends
        lengths = ends.lengths(width) if ends and settings.beams == 1 else [None] * len(new)
        whole = [self._up_to_end(ids[:length], config) for ids, length in zip(new, lengths, strict=True)]
        each = len(whole) // rows
        sound = watchers.soundness.of(rows)
        return [whole[row * each : (row + 1) * each] if sound[row] else None for row in range(rows)]

    def flows(self, settings: Settings) -> bool:
        """Whether rows may come and go with these settings."""
        return continuous_batching.handed_over(settings.config) is continuous_batching.write

    def flow(
        self, settings: Settings, new_tokens: tuple[int, int], places: int, more: Callable[[int], Entering | None],
        *, together: bool,
    ) -> Iterator[list[tuple[Any, list[list[int]] | None]]]:  # fmt: skip
        """As `run`, of rows that enter as others leave; each comes back with what it came to.

        At most `places` rows are written at once; `more(count)` gives at most so many to enter, None when there are no
        others. Without `together` rows enter only when all others have left. Settings must not follow beams.
        """
        config = _limited(settings.config, new_tokens)
        crowd, entered = Crowd(self._model), dict[Party, tuple[Entering, Watchers]]()
        while True:
            free = places - len(crowd)
            pays = not crowd or (together and crowd.open and free * ENTER_AT >= places)
            if left := crowd.leave():
                for party, rows in left:
                    its, watchers = entered[party] if len(party) else entered.pop(party)
                    sound = watchers.soundness.of(len(its.rows))
                    yield [(its.rows[at], [ids[its.width :]] if sound[at] else None) for at, ids in rows]
            elif pays and (new := more(free)):
                if not crowd:
                    self._put_back()
                watchers = self._watchers(new.tensors, settings)
                party = self._generate(new.tensors, settings, config, watchers, new.noise, Party)
                if party.may_leave:
                    crowd.enter(party)
                    entered[party] = new, watchers
                else:
                    yield list(zip(new.rows, self.run(new.tensors, settings, new_tokens, new.noise), strict=True))
            elif crowd:
                crowd.go_on()
            else:
                return

    def _put_back(self) -> None:
        if self._state is not None:
            self._state.restore()

    def _watchers(self, tensors: Mapping[str, torch.Tensor], settings: Settings) -> Watchers:
        padding = tensors["input_ids"].shape[1] - tensors["attention_mask"].sum(dim=1)
        ends = Ends(settings.stops, padding) if settings.stops else None
        return Watchers(Soundness(), self._interruption, ends)

    def _generate(
        self, tensors: Mapping[str, torch.Tensor], settings: Settings, config: GenerationConfig, watchers: Watchers,
        noise: Noise | None, writer: Callable[..., Any] | None,
    ) -> Any:  # fmt: skip
        processors: list[LogitsProcessor] = [watchers.soundness]
        if noise is not None:
            processors.append(sampling.Sampler(settings.filters, self._on_device(noise)))
        return self._model.generate(
            **tensors, generation_config=config, tokenizer=self._pipeline.tokenizer,
            logits_processor=LogitsProcessorList(processors), stopping_criteria=watchers.criteria,
            custom_generate=writer,
        )  # fmt: skip

    def _resolve(self, document: str) -> Settings:
        told = json.loads(document)
        wanted = told.pop("num_return_sequences", None)
        try:
            resolved = self._pipeline._prepare_generate_kwargs(told)
            config = self._model._prepare_generation_config(None, **resolved)[0]
            return self._checked(config, document, wanted or config.num_return_sequences or 1)
        except ValueError as error:
            raise JobError("invalid_parameters", f"the model does not take these parameters: {error}") from None

    def _checked(self, config: GenerationConfig, document: str, sequences: int) -> Settings:
        samples, beams = not sampling.is_greedy(config), config.num_beams or 1
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
        mine.do_sample = not sampling.is_greedy(config) and (config.num_beams or 1) > 1
        for name in sampling.FILTERS:
            if sampling.is_off(name, getattr(mine, name, None)):
                setattr(mine, name, None)
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

    def _on_device(self, noise: Noise) -> torch.Tensor:
        device = self._model.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.from_numpy(noise).to(dtype).to(device)


def _limited(config: GenerationConfig, new_tokens: tuple[int, int]) -> GenerationConfig:
    limited = copy.copy(config)
    limited.max_new_tokens, limited.min_new_tokens = new_tokens
    return limited


def _ends(config: GenerationConfig) -> list[int]:
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
