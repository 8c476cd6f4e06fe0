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
from worker.adapters.generation.stopping import Interruption, Soundness
from worker.adapters.tokenization.language_codes import Languages, Pair
from worker.layers.model_state import ModelState

# Not for `generate`: they choose the input's tokens, the output's spaces and the random numbers.
OURS = ("src_lang", "tgt_lang", "clean_up_tokenization_spaces", "seed")

# Most sequences side by side × their longest length in one run: their keys and values are kept for every layer. Of a
# BART-large (12 layers, 1,024 wide) that is 6 GB in 16 bits. The planner of micro-batches knows only inputs' lengths.
MOST_WRITTEN = 131_072

# A model's generation config may ask for more than texts.
TEXTS_ALONE = dict.fromkeys(
    ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"), False
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a batch asks of a model. Rows with an equal `key` are written together.

    `filters` shape the scores that tokens are drawn from; None where nothing is drawn.
    """

    key: str
    config: GenerationConfig
    languages: Pair | None
    sequences: int
    filters: LogitsProcessorList | None
    stops: StopStringCriteria | None

    @property
    def unpadded(self) -> bool:
        """Whether the padding of inputs would change what may be written."""
        return bool(self.config.encoder_no_repeat_ngram_size) or self.config.encoder_repetition_penalty != 1.0

    @property
    def rows_at_once(self) -> int:
        """How many rows go into one run."""
        return max(1, MOST_WRITTEN // (max(self.config.num_beams, self.sequences) * self.config.max_length))


class Writing:
    """A model, run with what batches ask for."""

    def __init__(
        self, model: Any, tokenizer: Any, defaults: Seq2SeqDefaults, languages: Languages, tokenizing: RLock,
        interrupt: Callable[[], bool], state: ModelState | None = None,
    ) -> None:  # fmt: skip
        """`tokenizing` is held while the tokenizer is used; a run goes on until it is interrupted.

        `state` is what the model is put back to before each run; None where it does not change.
        """
        self._state = state
        self._model = model
        self._interruption = Interruption(interrupt)
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._languages = languages
        self._tokenizing = tokenizing
        self.ask = lru_cache(maxsize=256)(self._ask)

    def run(
        self, tensors: Mapping[str, torch.Tensor], ask: Ask, seeds: Sequence[tuple[int | None, Sequence[int]]], *,
        fixed: bool = False,
    ) -> list[list[list[int]] | None]:  # fmt: skip
        """The token ids of each text of each row; None for a row whose scores are not numbers. Raises Interrupted.

        `tensors` are `(rows, width)`, those that only fill up last; `seeds` has a seed and the input's token ids for
        each other one. Rows that have ended leave, unless the shape is to stay `fixed`.
        """
        if self._state is not None:
            self._state.restore()
        rows = tensors["input_ids"].shape[0]
        soundness = Soundness()
        processors: list[LogitsProcessor] = [soundness]
        if ask.filters is not None:
            tensors = {name: tensor.repeat_interleave(ask.sequences, dim=0) for name, tensor in tensors.items()}
            processors.append(sampling.Sampler(ask.filters, self._noise(ask, seeds, rows)))
        written = self._model.generate(
            **tensors, generation_config=ask.config, logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([self._interruption, *([ask.stops] if ask.stops else [])]),
            custom_generate=None if fixed else continuous_batching.handed_over(ask.config),
        ).tolist()  # fmt: skip
        # What has left the loop is filled up with -1, and so are beams of a model that has no end.
        texts = [[token for token in ids if token >= 0] for ids in written]
        sound = soundness.of(rows)
        each = ask.sequences
        return [texts[row * each : (row + 1) * each] if sound[row] else None for row in range(len(seeds))]

    def _ask(self, document: str) -> Ask:
        parameters: dict[str, Any] = json.loads(document)
        languages = self._languages.asked(parameters)
        given = {name: value for name, value in parameters.items() if name not in OURS and value is not None}
        settings = self._defaults.asked(given)
        if languages is not None:
            settings["forced_bos_token_id"] = self._languages.id(languages[1])
        if settings["do_sample"]:
            # Several beams would be drawn from one generator for all rows, so a text would depend on its company.
            settings["num_beams"] = 1
        sequences = settings["num_return_sequences"]
        if sequences > settings["num_beams"] and not settings["do_sample"]:
            problem = f"num_return_sequences is {sequences}, num_beams {settings['num_beams']}"
            raise JobError("invalid_parameters", f"{problem}; follow as many beams, or set do_sample")
        key = json.dumps([given, languages and languages[1]], sort_keys=True)
        try:
            return self._made(key, settings, languages)
        except ValueError as error:
            said = first_line(error)
            raise JobError("invalid_parameters", f"the model does not take these parameters: {said}") from None

    def _made(self, key: str, settings: dict[str, Any], languages: Pair | None) -> Ask:
        draws, sequences = settings["do_sample"], settings["num_return_sequences"]
        stops = settings.pop("stop_strings", None)
        said = {name: value for name, value in settings.items() if value is not None}
        filters = sampling.filters(self._model, GenerationConfig(**said)) if draws else None
        # Drawing and telling texts apart are done here.
        said |= {"do_sample": False, "num_return_sequences": 1 if draws else sequences, **TEXTS_ALONE}
        with self._tokenizing:
            criterion = StopStringCriteria(self._tokenizer, stops) if stops else None
        return Ask(key, GenerationConfig(**said), languages, sequences, filters, criterion)

    def _noise(self, ask: Ask, seeds: Sequence[tuple[int | None, Sequence[int]]], rows: int) -> torch.Tensor:
        """Uniform numbers, `(rows × sequences, steps)`; rows that only fill up take the last one's."""
        steps = ask.config.max_length
        drawn = [sampling.noise(seed, ids, part, steps) for seed, ids in seeds for part in range(ask.sequences)]
        drawn += drawn[-ask.sequences :] * (rows - len(seeds))
        device = self._model.device
        # Metal has no float64.
        return torch.from_numpy(np.stack(drawn)).to(torch.float32 if device.type == "mps" else torch.float64).to(device)
