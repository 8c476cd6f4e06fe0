"""Text to text: summarization and translation by encoder-decoder models.

transformers 5 has no pipelines for them any more; the reference is 4.57's.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from threading import RLock
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, MarianTokenizer

from models import tasks
from models.errors import JobError
from worker.adapters.encoding.collation import DETERMINISTIC_ROWS, Collator
from worker.adapters.generation.seq2seq import Seq2SeqGenerator, Seq2SeqSettings
from worker.adapters.generation.seq2seq_v4_defaults import Seq2SeqDefaults
from worker.adapters.interface import Limits, never_interrupted
from worker.adapters.probes import sameness
from worker.adapters.probes.sameness import Sharing
from worker.adapters.probes.sameness_trials import GenerationTrial, check_can_generate
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization import long_texts, vocabulary
from worker.adapters.tokenization.language_codes import LanguageCodes, LanguagePair
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.leasing.leases import Job

OUTPUT_KEYS = {"summarization": "summary_text", "translation": "translation_text"}


class TextToText:
    """Encodes jobs in one tokenizer call for each pair of languages; writes with equal settings together."""

    auto_model_class: ClassVar[Any] = AutoModelForSeq2SeqLM
    uses_packing = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        defaults = Seq2SeqDefaults.from_model(model, tokenizer, task)
        self._sharing_policy = sameness.decide_sharing(model, GenerationTrial(), limits.max_length)
        state = self._sharing_policy.state_to_restore(model)
        check_can_generate(model)
        # Every setting is said with every run; where ours is None, `generate` would take what it finds here.
        model.generation_config = GenerationConfig()
        languages = LanguageCodes(tokenizer, defaults.task)
        self._tokenizer = tokenizer
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        # It keeps a state (how to cut, the source language), and one thread encodes while another decodes.
        self._tokenizer_lock = RLock()
        self._limits = limits
        self._output_key = OUTPUT_KEYS[tasks.find_spec(task).name]
        # Where a tokenizer takes languages, the pipeline leaves the prefix out.
        self._prefix = "" if languages.required else defaults.prefix
        # What is sampled with a seed runs in passes whose shape depends on the row alone.
        self._collators = {
            seeded: Collator(
                tokenizer,
                model.device,
                deterministic=seeded or limits.deterministic,
                max_width=limits.max_length,
                fixed_rows=DETERMINISTIC_ROWS,
            )
            for seeded in (False, True)
        }
        self.should_interrupt: Callable[[], bool] = never_interrupted
        self._generator = Seq2SeqGenerator(
            model, tokenizer, defaults, languages, self._tokenizer_lock, lambda: self.should_interrupt(), state
        )
        self.max_rows = self._collators[False].max_rows
        self._vocabulary_size = vocabulary.size(model)
        self._is_marian = isinstance(tokenizer, MarianTokenizer)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """A row for each job, cut at the limit.

        JobError: `input_too_long` where cutting is not wanted, `missing_language`, `unknown_language`, and
        `invalid_parameters` where they don't fit this model.
        """
        encoded: dict[int, list[Row] | JobError] = {}
        together: dict[LanguagePair | None, list[tuple[int, Job, Seq2SeqSettings]]] = defaultdict(list)
        with self._tokenizer_lock:
            for place, job in enumerate(jobs):
                try:
                    ask = self._settings_for(job)
                except JobError as error:
                    encoded[place] = error
                else:
                    together[ask.languages].append((place, job, ask))
            for languages, part in together.items():
                rows = self._encode_pair([job for _, job, _ in part], [ask for _, _, ask in part], languages)
                encoded.update(zip((place for place, _, _ in part), rows, strict=True))
        return [encoded[place] for place in range(len(jobs))]

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[list[list[int]] | None]:
        """For each row its texts as token ids, the decoder's start among them; None where scores were not numbers.

        Raises Interrupted.
        """
        ask = self._settings_for(micro_batch.rows[0].job)
        at_once = micro_batch.rows[0].max_rows or ask.max_rows
        parts = [micro_batch.rows[start : start + at_once] for start in range(0, len(micro_batch.rows), at_once)]
        return list(chain.from_iterable(self._generate_rows(part, ask) for part in parts))

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[list[list[int]] | None]) -> Any:
        """A list with `{"summary_text"}` or `{"translation_text"}` for each text. Raises JobError on NaN scores."""
        [texts] = raw_outputs
        if texts is None:
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        clean = rows[0].job.lease.parameters.get("clean_up_tokenization_spaces") or False
        how = {"skip_special_tokens": True, "clean_up_tokenization_spaces": clean}
        if self._is_marian:
            how["use_source_tokenizer"] = False  # 4.57 decodes with the target's pieces; 5.x would take the source's
        with self._tokenizer_lock:
            return [{self._output_key: self._tokenizer.decode(self._decodable_ids(ids), **how)} for ids in texts]

    def _decodable_ids(self, ids: Sequence[int]) -> Sequence[int]:
        if self._tokenizer.is_fast:
            return ids
        # In plain Python, 4.57 also leaves out ids that no word has: they read as the unknown one. 5.x would write
        # that, or with Marian whatever piece has the number.
        if self._is_marian:
            ids = [number for number in ids if number in self._tokenizer.decoder]
        words = self._tokenizer.convert_ids_to_tokens(ids)
        special = set(self._tokenizer.all_special_tokens)
        return [number for number, word in zip(ids, words, strict=True) if word not in special]

    def _settings_for(self, job: Job) -> Seq2SeqSettings:
        return self._generator.settings_for(json.dumps(dict(job.lease.parameters), sort_keys=True))

    def _generate_rows(self, rows: Sequence[Row], settings: Seq2SeqSettings) -> list[list[list[int]] | None]:
        tensors = self._collators[False].collate(MicroBatch(tuple(rows)))
        seeds = [row.job.lease.parameters.get("seed") for row in rows]
        ids = [row.features["input_ids"] for row in rows]
        fixed = rows[0].max_rows is not None or not self._sharing_policy.supports_continuous
        return self._generator.run(tensors, settings, list(zip(seeds, ids, strict=True)), fixed_shape=fixed)

    def _encode_pair(
        self, jobs: Sequence[Job], job_settings: Sequence[Seq2SeqSettings], language_pair: LanguagePair | None
    ) -> list[list[Row] | JobError]:
        encoding = self._tokenize([job.input["text"] for job in jobs], language_pair, truncation=True)
        rows: list[list[Row] | JobError] = []
        for place, (job, ask) in enumerate(zip(jobs, job_settings, strict=True)):
            ids = encoding["input_ids"][place]
            cut = self._is_truncated(encoding, place, job.input["text"], language_pair)
            if cut and not self._limits.should_truncate:
                limit = self._limits.max_length
                rows.append(
                    JobError("input_too_long", f"longer than the {limit} tokens that this pipeline takes; cut it")
                )
            else:
                rows.append(self._make_row(job, ask, ids, is_truncated=cut))
        return rows

    def _make_row(
        self, job: Job, settings: Seq2SeqSettings, ids: list[int], *, is_truncated: bool
    ) -> list[Row] | JobError:
        try:
            vocabulary.check_token_ids(ids, self._vocabulary_size)
        except JobError as error:
            return error
        seeded = job.lease.parameters.get("seed") is not None
        fixed = seeded or self._limits.deterministic
        sharing = self._sharing_policy.sharing_for(max(len(ids), settings.config.max_length), fixed_shape=fixed)
        row = self._collators[seeded].make_row(
            job,
            {"input_ids": array("i", ids)},
            truncated=is_truncated,
            key=(settings.key, seeded, sharing),
            equal_lengths=settings.forbids_padding or sharing is not Sharing.TOGETHER,
        )
        return [replace(row, width=None, max_rows=1) if sharing is Sharing.ALONE else row]

    def _tokenize(self, texts: Sequence[str], language_pair: LanguagePair | None, *, truncation: bool = False) -> Any:
        limit = self._limits.max_length if truncation else None
        how = {"truncation": limit is not None, "max_length": limit}
        whole = [self._prefix + text for text in texts] if language_pair is None else texts
        given = [text if limit is None else self._truncate_text(text, limit) for text in whole]
        if language_pair is None:
            return self._tokenizer(given, **how)
        source, target = language_pair
        return self._tokenizer._build_translation_inputs(
            given, return_tensors=None, src_lang=source, tgt_lang=target, **how
        )

    def _truncate_text(self, text: str, limit: int) -> str:
        """A text without most of what is cut off anyway; cut as the whole it comes to the same tokens."""
        if self._long_text_tokenizer is None or len(text) <= PIECE_CHARACTERS:
            return text
        return self._long_text_tokenizer.truncate_text(text, limit, self._tokenizer.truncation_side)

    def _is_truncated(self, encoding: Any, index: int, text: str, language_pair: LanguagePair | None) -> bool:
        if encoding.encodings is not None:
            return bool(encoding.encodings[index].overflowing)
        if len(encoding["input_ids"][index]) != self._limits.max_length:
            return False
        # A tokenizer in plain Python does not tell; only one that filled the limit needs a second look.
        return len(self._tokenize([text], language_pair)["input_ids"][0]) > self._limits.max_length
