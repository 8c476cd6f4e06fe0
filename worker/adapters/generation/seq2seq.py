"""Writing: what a batch's parameters come to for an encoder-decoder, and one run of `generate` over padded rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteriaList,
    StopStringCriteria,
)

from models.errors import JobError, first_line
from worker.adapters.generation import continuous_batching, sampling
from worker.adapters.generation.seq2seq_v4_defaults import Seq2SeqDefaults
from worker.adapters.generation.stopping import FiniteScoreCheck, InterruptCriteria
from worker.adapters.tokenization.language_codes import LanguageCodes, LanguagePair
from worker.layers.model_state import ModelState

# Not for `generate`: they choose the input's tokens, the output's spaces and the random numbers.
NOT_FOR_GENERATE = ("src_lang", "tgt_lang", "clean_up_tokenization_spaces", "seed")

# Most sequences side by side × their longest length in one run: their keys and values are kept for every layer. Of a
# BART-large (12 layers, 1,024 wide) that is 6 GB in 16 bits. The planner of micro-batches knows only inputs' lengths.
MAX_CACHED_TOKENS = 131_072

# A model's generation config may ask for more than texts.
TEXT_ONLY_OUTPUT = dict.fromkeys(
    ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"), False
)


@dataclass(frozen=True, slots=True)
class Seq2SeqSettings:
    """What a batch asks of a model. Rows with an equal `key` are written together.

    `filters` shape the scores that tokens are drawn from; None where nothing is drawn.
    """

    key: str
    config: GenerationConfig
    languages: LanguagePair | None
    num_sequences: int
    filters: LogitsProcessorList | None
    stop_criteria: StopStringCriteria | None

    @property
    def forbids_padding(self) -> bool:
        """Whether the padding of inputs would change what may be written."""
        return bool(self.config.encoder_no_repeat_ngram_size) or self.config.encoder_repetition_penalty != 1.0

    @property
    def max_rows(self) -> int:
        """How many rows go into one run."""
        return max(1, MAX_CACHED_TOKENS // (max(self.config.num_beams, self.num_sequences) * self.config.max_length))


class Seq2SeqGenerator:
    """A model, run with what batches ask for."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        defaults: Seq2SeqDefaults,
        language_codes: LanguageCodes,
        tokenizer_lock: RLock,
        should_interrupt: Callable[[], bool],
        state: ModelState | None = None,
    ) -> None:
        """`tokenizing` is held while the tokenizer is used; a run goes on until it is interrupted.

        `state` is what the model is put back to before each run; None where it does not change.
        """
        self._state = state
        self._model = model
        self._interrupt_criteria = InterruptCriteria(should_interrupt)
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._language_codes = language_codes
        self._tokenizer_lock = tokenizer_lock
        self.settings_for = lru_cache(maxsize=256)(self._resolve_settings)

    def run(
        self,
        tensors: Mapping[str, torch.Tensor],
        settings: Seq2SeqSettings,
        seeds: Sequence[tuple[int | None, Sequence[int]]],
        *,
        fixed_shape: bool = False,
    ) -> list[list[list[int]] | None]:
        """The token ids of each text of each row; None for a row whose scores are not numbers. Raises Interrupted.

        `tensors` are `(rows, width)`, those that only fill up last; `seeds` has a seed and the input's token ids for
        each other one. Rows that have ended leave, unless the shape is to stay `fixed`.
        """
        if self._state is not None:
            self._state.restore()
        rows = tensors["input_ids"].shape[0]
        soundness = FiniteScoreCheck()
        processors: list[LogitsProcessor] = [soundness]
        if settings.filters is not None:
            tensors = {
                name: tensor.repeat_interleave(settings.num_sequences, dim=0) for name, tensor in tensors.items()
            }
            processors.append(sampling.Sampler(settings.filters, self._draw_noise(settings, seeds, rows)))
        written = self._model.generate(
            **tensors,
            generation_config=settings.config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(
                [self._interrupt_criteria, *([settings.stop_criteria] if settings.stop_criteria else [])]
            ),
            custom_generate=None if fixed_shape else continuous_batching.custom_generate_for(settings.config),
        ).tolist()
        # What has left the loop is filled up with -1, and so are beams of a model that has no end.
        texts = [[token for token in ids if token >= 0] for ids in written]
        sound = soundness.finite_rows(rows)
        each = settings.num_sequences
        return [texts[row * each : (row + 1) * each] if sound[row] else None for row in range(len(seeds))]

    def _resolve_settings(self, parameters_json: str) -> Seq2SeqSettings:
        parameters: dict[str, Any] = json.loads(parameters_json)
        languages = self._language_codes.pair_for(parameters)
        given = {
            name: value for name, value in parameters.items() if name not in NOT_FOR_GENERATE and value is not None
        }
        settings = self._defaults.with_parameters(given)
        if languages is not None:
            settings["forced_bos_token_id"] = self._language_codes.token_id(languages[1])
        if settings["do_sample"]:
            # Several beams would be drawn from one generator for all rows, so a text would depend on its company.
            settings["num_beams"] = 1
        sequences = settings["num_return_sequences"]
        if sequences > settings["num_beams"] and not settings["do_sample"]:
            problem = f"num_return_sequences is {sequences}, num_beams {settings['num_beams']}"
            raise JobError("invalid_parameters", f"{problem}; follow as many beams, or set do_sample")
        key = json.dumps([given, languages and languages[1]], sort_keys=True)
        try:
            return self._build_settings(key, settings, languages)
        except ValueError as error:
            said = first_line(error)
            raise JobError("invalid_parameters", f"the model does not take these parameters: {said}") from None

    def _build_settings(
        self, key: str, settings: dict[str, Any], language_pair: LanguagePair | None
    ) -> Seq2SeqSettings:
        draws, sequences = settings["do_sample"], settings["num_return_sequences"]
        stops = settings.pop("stop_strings", None)
        said = {name: value for name, value in settings.items() if value is not None}
        filters = sampling.filters_for(self._model, GenerationConfig(**said)) if draws else None
        # Drawing and telling texts apart are done here.
        said |= {"do_sample": False, "num_return_sequences": 1 if draws else sequences, **TEXT_ONLY_OUTPUT}
        with self._tokenizer_lock:
            criterion = StopStringCriteria(self._tokenizer, stops) if stops else None
        return Seq2SeqSettings(key, GenerationConfig(**said), language_pair, sequences, filters, criterion)

    def _draw_noise(
        self, settings: Seq2SeqSettings, seeds: Sequence[tuple[int | None, Sequence[int]]], row_count: int
    ) -> torch.Tensor:
        """Uniform numbers, `(rows × sequences, steps)`; rows that only fill up take the last one's."""
        steps = settings.config.max_length
        drawn = [
            sampling.noise(seed, ids, part, steps) for seed, ids in seeds for part in range(settings.num_sequences)
        ]
        drawn += drawn[-settings.num_sequences :] * (row_count - len(seeds))
        device = self._model.device
        # Metal has no float64.
        return torch.from_numpy(np.stack(drawn)).to(torch.float32 if device.type == "mps" else torch.float64).to(device)
