"""Generation settings: a batch's parameters, resolved for one model."""

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from transformers import GenerationConfig, LogitsProcessorList, StopStringCriteria
from transformers.generation import GenerationMode

from models.errors import JobError
from models.foreign_errors import first_line
from worker.adapters.tokenization.language_codes import LanguagePair

# A model's generation config may ask for further outputs.
TEXT_ONLY_OUTPUT = dict.fromkeys(
    ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"), False
)

SINGLE_ROW_MODES = (GenerationMode.ASSISTED_GENERATION,)


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """Limits of a text that continues its prompt; None = the `total` limits apply, which include the prompt.

    cap: the most new tokens whatever the other limits say, None = no cap.
    """

    max_new: int | None
    min_new: int | None
    max_total: int
    min_total: int
    cap: int | None = None

    def new_tokens(self, prompt_tokens: int) -> tuple[int, int]:
        """Return the most and the fewest new tokens after a prompt of this length; the most may be 0 or less."""
        most = self.max_total - prompt_tokens if self.max_new is None else self.max_new
        fewest = max(0, self.min_total - prompt_tokens) if self.min_new is None else self.min_new
        return (most, fewest) if self.cap is None else (min(most, self.cap), min(fewest, self.cap))


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """A batch's parameters on top of the defaults of a model and its pipeline.

    config: what transformers receives; it samples no single tokens and has no stop strings.
    key: equal for settings that may share a pass.
    do_sample, num_beams, num_sequences: as requested.
    filters: what shapes the scores before a token is drawn; used when `samples_per_token`.
    forbids_padding: whether padding would change the output.
    limits: None = an encoder-decoder, whose config holds its limits.
    languages: source and target, None = the model takes none.
    max_seconds: of the device for one row, None = no limit.
    schema: what each text must meet, None = nothing.
    """

    config: GenerationConfig
    key: Hashable
    do_sample: bool
    num_beams: int
    num_sequences: int
    filters: LogitsProcessorList
    stop_criteria: StopStringCriteria | None
    forbids_padding: bool
    limits: TokenLimits | None = None
    languages: LanguagePair | None = None
    max_seconds: float | None = None
    schema: str | None = None

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

    def new_token_limits(self, prompt_tokens: int) -> tuple[int, int]:
        """As `TokenLimits.new_tokens`."""
        assert self.limits is not None
        return self.limits.new_tokens(prompt_tokens)

    def with_new_tokens(self, new_tokens: tuple[int, int]) -> "GenerationSettings":
        """The settings for a run with at most, and at least, so many new tokens."""
        config = copy(self.config)
        config.max_new_tokens, config.min_new_tokens = new_tokens
        return replace(self, config=config)


class SettingsResolver(ABC):
    """Resolves parameters for one model, each combination once."""

    def __init__(self) -> None:
        self._cached_settings = lru_cache(maxsize=256)(self._resolve_json)

    def resolve(self, parameters: Mapping[str, Any]) -> GenerationSettings:
        """Return the settings. Raises JobError `invalid_parameters` when this model does not support them."""
        # The seed is for our own sampler; batches that differ only in their seeds share forward passes.
        params = {name: value for name, value in parameters.items() if self._is_used(name) and value is not None}
        return self._cached_settings(json.dumps(params, sort_keys=True))

    @abstractmethod
    def _is_used(self, name: str) -> bool:
        """Whether a parameter changes the settings."""

    @abstractmethod
    def _build(self, parameters: dict[str, Any]) -> GenerationSettings:
        """The settings. Raises JobError or ValueError."""

    def _resolve_json(self, parameters_json: str) -> GenerationSettings:
        try:
            return self._build(json.loads(parameters_json))
        except ValueError as error:
            reason = first_line(error)
            raise JobError("invalid_parameters", f"the model does not take these parameters: {reason}") from None


def end_token_ids(config: GenerationConfig) -> list[int]:
    """Return the tokens that end a text."""
    end_ids = config.eos_token_id
    return [] if end_ids is None else [end_ids] if isinstance(end_ids, int) else list(end_ids)
