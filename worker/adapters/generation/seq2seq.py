"""Generation with encoder-decoders: a batch's parameters resolved for one model, and runs of `generate`."""

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

# Parameters for the tokenizer, the decoding of the output, and our own sampler.
NOT_FOR_GENERATE = ("src_lang", "tgt_lang", "clean_up_tokenization_spaces", "seed")

# Concurrent sequences × their maximum length in one run, since keys and values are cached for every layer. A BART-large
# (12 layers, 1,024 wide) takes 6 GB for them in 16 bits. The planner of micro-batches only knows input lengths.
MAX_CACHED_TOKENS = 131_072

# A model's generation config may ask for further outputs.
TEXT_ONLY_OUTPUT = dict.fromkeys(
    ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"), False
)


@dataclass(frozen=True, slots=True)
class Seq2SeqSettings:
    """A batch's parameters, resolved for one model.

    key: equal for rows that may share a run.
    languages: source and target, None = the model takes none.
    filters: what shapes the scores before a token is drawn, None = nothing is sampled.
    """

    key: str
    config: GenerationConfig
    languages: LanguagePair | None
    num_sequences: int
    filters: LogitsProcessorList | None
    stop_criteria: StopStringCriteria | None

    @property
    def forbids_padding(self) -> bool:
        """Whether padding of the inputs would change the output."""
        return bool(self.config.encoder_no_repeat_ngram_size) or self.config.encoder_repetition_penalty != 1.0

    @property
    def max_rows(self) -> int:
        """The most rows in one run."""
        return max(1, MAX_CACHED_TOKENS // (max(self.config.num_beams, self.num_sequences) * self.config.max_length))


class Seq2SeqGenerator:
    """Runs an encoder-decoder with the settings of batches."""

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
        """`tokenizer_lock` is held while the tokenizer is used.

        `state` is restored before each run, None = the model has no state that changes.
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
        """Return the token ids of each row's texts; None for a row with non-finite scores.

        tensors: `(rows, width)`; rows that only fill up the shape come last.
        seeds: the seed and input ids of each row that is not such a filler.
        fixed_shape: keep rows that have ended in the pass.

        Raises Interrupted.
        """
        if self._state is not None:
            self._state.restore()
        rows, per_row = tensors["input_ids"].shape[0], settings.num_sequences
        finite_scores = FiniteScoreCheck()
        processors: list[LogitsProcessor] = [finite_scores]
        if settings.filters is not None:
            tensors = {name: tensor.repeat_interleave(per_row, dim=0) for name, tensor in tensors.items()}
            processors.append(sampling.Sampler(settings.filters, self._draw_noise(settings, seeds, rows)))
        output = self._model.generate(
            **tensors,
            generation_config=settings.config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(
                [self._interrupt_criteria, *([settings.stop_criteria] if settings.stop_criteria else [])]
            ),
            custom_generate=None if fixed_shape else continuous_batching.custom_generate_for(settings.config),
        ).tolist()
        # Negative ids fill up rows that left early, and beams of a model without an end token.
        texts = [[token for token in ids if token >= 0] for ids in output]
        finite = finite_scores.finite_rows(rows)
        return [texts[row * per_row : (row + 1) * per_row] if finite[row] else None for row in range(len(seeds))]

    def _resolve_settings(self, parameters_json: str) -> Seq2SeqSettings:
        parameters: dict[str, Any] = json.loads(parameters_json)
        languages = self._language_codes.pair_for(parameters)
        params = {
            name: value for name, value in parameters.items() if name not in NOT_FOR_GENERATE and value is not None
        }
        settings = self._defaults.with_parameters(params)
        if languages is not None:
            settings["forced_bos_token_id"] = self._language_codes.token_id(languages[1])
        if settings["do_sample"]:
            # transformers samples the beams of all rows from one generator: a text would depend on the other rows.
            settings["num_beams"] = 1
        sampling.check_sequence_count(
            settings["num_return_sequences"], settings["num_beams"], do_sample=settings["do_sample"]
        )
        key = json.dumps([params, languages and languages[1]], sort_keys=True)
        try:
            return self._build_settings(key, settings, languages)
        except ValueError as error:
            reason = first_line(error)
            raise JobError("invalid_parameters", f"the model does not take these parameters: {reason}") from None

    def _build_settings(
        self, key: str, settings: dict[str, Any], language_pair: LanguagePair | None
    ) -> Seq2SeqSettings:
        do_sample, num_sequences = settings["do_sample"], settings["num_return_sequences"]
        stop_strings = settings.pop("stop_strings", None)
        params = {name: value for name, value in settings.items() if value is not None}
        filters = sampling.filters_for(self._model, GenerationConfig(**params)) if do_sample else None
        # Our own sampler draws, and `run` repeats the rows for it.
        params |= {"do_sample": False, "num_return_sequences": 1 if do_sample else num_sequences, **TEXT_ONLY_OUTPUT}
        with self._tokenizer_lock:
            stop_criteria = StopStringCriteria(self._tokenizer, stop_strings) if stop_strings else None
        return Seq2SeqSettings(key, GenerationConfig(**params), language_pair, num_sequences, filters, stop_criteria)

    def _draw_noise(
        self, settings: Seq2SeqSettings, seeds: Sequence[tuple[int | None, Sequence[int]]], row_count: int
    ) -> torch.Tensor:
        """Return uniform numbers `(rows × sequences, steps)`; filler rows repeat those of the last row."""
        per_row = settings.num_sequences
        numbers = [
            sampling.noise(seed, ids, sequence, settings.config.max_length)
            for seed, ids in seeds
            for sequence in range(per_row)
        ]
        numbers += numbers[-per_row:] * (row_count - len(seeds))
        return sampling.to_device(np.stack(numbers), self._model.device)
