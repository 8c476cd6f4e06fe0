"""The adapter for summarization and translation by encoder-decoder models.

transformers 5 no longer has these pipelines; the reference is 4.57.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from threading import RLock
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, MarianTokenizer

from models import tasks
from models.errors import JobError
from worker.adapters.control.logits_processors import LogitsProcessors
from worker.adapters.encoding.collation import Collator
from worker.adapters.generation import cache_memory, sampling
from worker.adapters.generation.cache_memory import FIXED_ROWS, RowLimit, RowSize
from worker.adapters.generation.call_settings.seq2seq_settings import Seq2SeqSettings
from worker.adapters.generation.call_settings.seq2seq_v4_defaults import Seq2SeqDefaults
from worker.adapters.generation.call_settings.settings import GenerationSettings
from worker.adapters.generation.generator import Generator, PrefillRows, RawOutput
from worker.adapters.interface import Limits, never_interrupted
from worker.adapters.probes import sameness
from worker.adapters.probes.sameness_trials import GenerationTrial, check_can_generate
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization import long_texts, vocabulary
from worker.adapters.tokenization.language_codes import LanguageCodes, LanguagePair
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.adapters.tokenization.token_array import token_array
from worker.leasing.leases import Job

# Concurrent sequences × their maximum length in one run, where memory can't be measured, since keys and values are
# cached for every layer. The planner of micro-batches only knows input lengths.
MAX_CACHED_TOKENS = 131_072

OUTPUT_KEYS = {"summarization": "summary_text", "translation": "translation_text"}


class TextToText:
    """Encodes jobs in one tokenizer call per language pair, and generates jobs with equal settings together."""

    auto_model_class: ClassVar[Any] = AutoModelForSeq2SeqLM
    uses_packing = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        defaults = Seq2SeqDefaults.from_model(model, tokenizer, task)
        self._sharing_policy = sameness.decide_sharing(model, GenerationTrial(), limits.max_length)
        state = self._sharing_policy.state_to_restore(model)
        check_can_generate(model)
        # Every run passes all settings; for those that are None, `generate` would use the model's config.
        model.generation_config = GenerationConfig()
        languages = LanguageCodes(tokenizer, defaults.task)
        self._tokenizer = tokenizer
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        # It has state (truncation, the source language), and one thread encodes while another decodes.
        self._tokenizer_lock = RLock()
        self._limits = limits
        self._output_key = OUTPUT_KEYS[tasks.find_spec(task).name]
        # Like the pipeline, without a prefix where the tokenizer takes languages.
        self._prefix = "" if languages.required else defaults.prefix
        # Sampling with a seed runs in passes whose shape depends on the row alone.
        self._collators = {
            seeded: Collator(
                tokenizer,
                model.device,
                limits,
                deterministic=seeded or limits.deterministic,
                pad_values={"input_ids": 0} if vocabulary.lacks_padding(model, tokenizer) else None,
                fixed_rows=FIXED_ROWS,
            )
            for seeded in (False, True)
        }
        self.should_interrupt: Callable[[], bool] = never_interrupted
        self._settings = Seq2SeqSettings(model, tokenizer, defaults, languages, self._tokenizer_lock)
        processors = LogitsProcessors.load(limits.logits_processors, model, tokenizer)
        self._generator = Generator(model, tokenizer, lambda: self.should_interrupt(), state, processors)
        self.max_rows = cache_memory.max_rows_on(model.device, self._collators[False].max_rows)
        self._row_limit = RowLimit.for_model(model, MAX_CACHED_TOKENS)
        self._vocabulary_size = vocabulary.size(model)
        self._is_marian = isinstance(tokenizer, MarianTokenizer)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, cut at the limit.

        JobError: `input_too_long` if it must not be cut, `missing_language`, `unknown_language`, and
        `invalid_parameters` if they don't fit this model.
        """
        encoded: dict[int, list[Row] | JobError] = {}
        groups: dict[LanguagePair | None, dict[int, GenerationSettings]] = defaultdict(dict)
        with self._tokenizer_lock:
            for index, job in enumerate(jobs):
                try:
                    settings = self._settings.resolve(job.lease.parameters)
                except JobError as error:
                    encoded[index] = error
                else:
                    groups[settings.languages][index] = settings
            for languages, group in groups.items():
                rows = self._encode_pair([jobs[index] for index in group], list(group.values()), languages)
                encoded.update(zip(group, rows, strict=True))
        return [encoded[index] for index in range(len(jobs))]

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[RawOutput]:
        """Each row's texts as token ids, with the decoder's start token.

        Raises Interrupted.
        """
        settings = self._settings.resolve(micro_batch.rows[0].job.lease.parameters)
        count_fitting = self._row_limit.begin_run(samples=settings.samples_per_token)
        max_rows = micro_batch.rows[0].max_rows or count_fitting(_row_size(micro_batch.width, settings))
        parts = [micro_batch.rows[start : start + max_rows] for start in range(0, len(micro_batch.rows), max_rows)]
        return list(chain.from_iterable(self._generate_rows(part, settings) for part in parts))

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[list[list[int]] | None]) -> Any:
        """`[{"summary_text"}]` or `[{"translation_text"}]`, one for each text.

        Raises JobError if scores are not finite.
        """
        [texts] = raw_outputs
        if texts is None:
            raise non_finite_scores()
        clean_up = rows[0].job.lease.parameters.get("clean_up_tokenization_spaces") or False
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": clean_up}
        if self._is_marian:
            options["use_source_tokenizer"] = False  # as in 4.57; 5.x would decode with the source's pieces
        with self._tokenizer_lock:
            return [{self._output_key: self._tokenizer.decode(self._decodable_ids(ids), **options)} for ids in texts]

    def _decodable_ids(self, ids: Sequence[int]) -> Sequence[int]:
        if self._tokenizer.is_fast:
            return ids
        # In plain Python, 4.57 also drops ids without a token, which decode as the unknown token. 5.x would write
        # that token, or with Marian the source's piece with this id.
        if self._is_marian:
            ids = [token_id for token_id in ids if token_id in self._tokenizer.decoder]
        tokens = self._tokenizer.convert_ids_to_tokens(ids)
        special = set(self._tokenizer.all_special_tokens)
        return [token_id for token_id, token in zip(ids, tokens, strict=True) if token not in special]

    def _generate_rows(self, rows: Sequence[Row], settings: GenerationSettings) -> list[RawOutput]:
        tensors = self._collators[False].collate(MicroBatch(tuple(rows)))
        noise = None
        if settings.samples_per_token:
            indices = range(settings.num_sequences)
            sources = [(row.job.lease.parameters.get("seed"), row.features["input_ids"], indices) for row in rows]
            noise = sampling.stack_noise(sources, len(tensors["input_ids"]), settings.config.max_length)
        fixed_shape = rows[0].max_rows is not None or not self._sharing_policy.supports_continuous
        return self._generator.run(PrefillRows(rows, tensors, noise), settings, fixed_shape=fixed_shape)

    def _encode_pair(
        self, jobs: Sequence[Job], job_settings: Sequence[GenerationSettings], language_pair: LanguagePair | None
    ) -> list[list[Row] | JobError]:
        encoding = self._tokenize([job.input["text"] for job in jobs], language_pair, truncation=True)
        return [
            rows_or_error(
                self._make_rows,
                job,
                settings,
                encoding["input_ids"][index],
                is_truncated=long_texts.is_truncated(
                    encoding,
                    index,
                    self._limits.max_length,
                    partial(self._count_tokens, job.input["text"], language_pair),
                ),
            )
            for index, (job, settings) in enumerate(zip(jobs, job_settings, strict=True))
        ]

    def _make_rows(self, job: Job, settings: GenerationSettings, ids: list[int], *, is_truncated: bool) -> list[Row]:
        if is_truncated and not self._limits.should_truncate:
            raise input_too_long("too many tokens", self._limits.max_length)
        vocabulary.check_token_ids(ids, self._vocabulary_size)
        seeded = job.lease.parameters.get("seed") is not None
        fixed = seeded or self._limits.deterministic
        sharing = self._sharing_policy.sharing_for(max(len(ids), settings.config.max_length), fixed_shape=fixed)
        row = self._collators[seeded].make_row(
            job,
            {"input_ids": token_array(ids)},
            truncated=is_truncated,
            key=(settings.key, seeded, sharing),
            equal_lengths=settings.forbids_padding or sharing is not Sharing.TOGETHER,
        )
        if sharing is Sharing.ALONE:
            return [replace(row, width=None, max_rows=1)]
        if row.width is None:
            return [row]
        size = _row_size(row.width, settings)
        return [replace(row, max_rows=self._row_limit.fixed_rows(size, samples=settings.samples_per_token))]

    def _tokenize(self, texts: Sequence[str], language_pair: LanguagePair | None, *, truncation: bool = False) -> Any:
        limit = self._limits.max_length if truncation else None
        options = {"truncation": limit is not None, "max_length": limit}
        inputs = [self._prefix + text for text in texts] if language_pair is None else texts
        inputs = [text if limit is None else self._truncate_text(text, limit) for text in inputs]
        if language_pair is None:
            return self._tokenizer(inputs, **options)
        source, target = language_pair
        return self._tokenizer._build_translation_inputs(
            inputs, return_tensors=None, src_lang=source, tgt_lang=target, **options
        )

    def _truncate_text(self, text: str, limit: int) -> str:
        """A long text without most of what the tokenizer would cut; its tokens are those of the whole."""
        if self._long_text_tokenizer is None or len(text) <= PIECE_CHARACTERS:
            return text
        return self._long_text_tokenizer.truncate_text(text, limit, self._tokenizer.truncation_side)

    def _count_tokens(self, text: str, language_pair: LanguagePair | None) -> int:
        return len(self._tokenize([text], language_pair)["input_ids"][0])


def _row_size(width: int, settings: GenerationSettings) -> RowSize:
    return RowSize(settings.config.max_length, width, max(settings.config.num_beams, settings.num_sequences))
