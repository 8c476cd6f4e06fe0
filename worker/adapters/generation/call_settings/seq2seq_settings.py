"""The generation settings of encoder-decoders, on top of the defaults of transformers 4.57's pipelines."""

import json
from threading import RLock
from typing import Any

from transformers import GenerationConfig, LogitsProcessorList, StopStringCriteria

from worker.adapters.generation import sampling
from worker.adapters.generation.call_settings.seq2seq_v4_defaults import Seq2SeqDefaults
from worker.adapters.generation.call_settings.settings import TEXT_ONLY_OUTPUT, GenerationSettings, SettingsResolver
from worker.adapters.tokenization.language_codes import LanguageCodes

# Parameters for our own sampler, and for the decoding of the output.
UNUSED_PARAMETERS = ("seed", "clean_up_tokenization_spaces")


class Seq2SeqSettings(SettingsResolver):
    """Puts a batch's parameters on top of the defaults; `tokenizer_lock` is held while the tokenizer is used."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        defaults: Seq2SeqDefaults,
        language_codes: LanguageCodes,
        tokenizer_lock: RLock,
    ) -> None:
        super().__init__()
        self._model = model
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._language_codes = language_codes
        self._tokenizer_lock = tokenizer_lock

    def _is_used(self, name: str) -> bool:
        return name not in UNUSED_PARAMETERS

    def _build(self, parameters: dict[str, Any]) -> GenerationSettings:
        languages = self._language_codes.pair_for(parameters)
        params = {name: value for name, value in parameters.items() if name not in ("src_lang", "tgt_lang")}
        values = self._defaults.with_parameters(params)
        do_sample, num_sequences = values["do_sample"], values["num_return_sequences"]
        if languages is not None:
            values["forced_bos_token_id"] = self._language_codes.token_id(languages[1])
        if do_sample:
            # transformers samples the beams of all rows from one generator: a text would depend on the other rows.
            values["num_beams"] = 1
        sampling.check_sequence_count(num_sequences, values["num_beams"], do_sample=do_sample)
        stop_strings, max_seconds = values.pop("stop_strings", None), values.pop("max_time", None)
        values = {name: value for name, value in values.items() if value is not None}
        filters = sampling.filters_for(self._model, GenerationConfig(**values)) if do_sample else LogitsProcessorList()
        # Our own sampler draws, from rows that are repeated for it.
        values |= {"do_sample": False, "num_return_sequences": 1 if do_sample else num_sequences, **TEXT_ONLY_OUTPUT}
        config = GenerationConfig(**values)
        with self._tokenizer_lock:
            stop_criteria = StopStringCriteria(self._tokenizer, stop_strings) if stop_strings else None
        return GenerationSettings(
            config=config,
            key=json.dumps([params, languages and languages[1]], sort_keys=True),
            do_sample=do_sample,
            num_beams=config.num_beams,
            num_sequences=num_sequences,
            filters=filters,
            stop_criteria=stop_criteria,
            forbids_padding=bool(config.encoder_no_repeat_ngram_size) or config.encoder_repetition_penalty != 1.0,
            languages=languages,
            max_seconds=max_seconds,
        )
