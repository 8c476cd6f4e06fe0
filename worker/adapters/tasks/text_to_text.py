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
from worker.adapters.encoding.collation import FIXED_ROWS, Collation
from worker.adapters.generation.seq2seq import Ask, Writing
from worker.adapters.generation.seq2seq_v4_defaults import Seq2SeqDefaults
from worker.adapters.interface import Limits, never
from worker.adapters.probes import sameness
from worker.adapters.probes.sameness import Sharing
from worker.adapters.probes.sameness_trials import WritingTrial, write_a_little
from worker.adapters.rows import Encoded, MicroBatch
from worker.adapters.tokenization import long_texts, vocabulary
from worker.adapters.tokenization.language_codes import Languages, Pair
from worker.adapters.tokenization.long_texts import PIECE
from worker.leasing.leases import Job

RETURNED = {"summarization": "summary_text", "translation": "translation_text"}


class TextToText:
    """Encodes jobs in one tokenizer call for each pair of languages; writes with equal settings together."""

    head: ClassVar[Any] = AutoModelForSeq2SeqLM
    packs = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        defaults = Seq2SeqDefaults.of(model, tokenizer, task)
        self._sameness = sameness.settle(model, WritingTrial(), limits.max_length)
        state = self._sameness.state(model)
        write_a_little(model)
        # Every setting is said with every run; where ours is None, `generate` would take what it finds here.
        model.generation_config = GenerationConfig()
        languages = Languages(tokenizer, defaults.task)
        self._tokenizer = tokenizer
        self._long = long_texts.of(tokenizer)
        # It keeps a state (how to cut, the source language), and one thread encodes while another decodes.
        self._tokenizing = RLock()
        self._limits = limits
        self._returned = RETURNED[tasks.find(task).name]
        # Where a tokenizer takes languages, the pipeline leaves the prefix out.
        self._prefix = "" if languages.wanted else defaults.prefix
        # What is sampled with a seed runs in passes whose shape depends on the row alone.
        self._collations = {
            seeded: Collation(
                tokenizer, model.device, deterministic=seeded or limits.deterministic, longest=limits.max_length,
                fixed_rows=FIXED_ROWS,
            )
            for seeded in (False, True)
        }  # fmt: skip
        self.interrupt: Callable[[], bool] = never
        self._writing = Writing(
            model, tokenizer, defaults, languages, self._tokenizing, lambda: self.interrupt(), state
        )  # fmt: skip
        self.most_rows = self._collations[False].most_rows
        self._words = vocabulary.size(model)
        self._marian = isinstance(tokenizer, MarianTokenizer)

    def encode(self, jobs: Sequence[Job]) -> list[list[Encoded] | JobError]:
        """A row for each job, cut at the limit.

        JobError: `input_too_long` where cutting is not wanted, `missing_language`, `unknown_language`, and
        `invalid_parameters` where they don't fit this model.
        """
        encoded: dict[int, list[Encoded] | JobError] = {}
        together: dict[Pair | None, list[tuple[int, Job, Ask]]] = defaultdict(list)
        with self._tokenizing:
            for place, job in enumerate(jobs):
                try:
                    ask = self._ask(job)
                except JobError as error:
                    encoded[place] = error
                else:
                    together[ask.languages].append((place, job, ask))
            for languages, part in together.items():
                rows = self._encode([job for _, job, _ in part], [ask for _, _, ask in part], languages)
                encoded.update(zip((place for place, _, _ in part), rows, strict=True))
        return [encoded[place] for place in range(len(jobs))]

    @torch.inference_mode()
    def forward(self, batch: MicroBatch) -> list[list[list[int]] | None]:
        """For each row its texts as token ids, the decoder's start among them; None where scores were not numbers.

        Raises Interrupted.
        """
        ask = self._ask(batch.rows[0].job)
        at_once = batch.rows[0].most or ask.rows_at_once
        parts = [batch.rows[start : start + at_once] for start in range(0, len(batch.rows), at_once)]
        return list(chain.from_iterable(self._written(part, ask) for part in parts))

    def decode(self, rows: Sequence[Encoded], raw: Sequence[list[list[int]] | None]) -> Any:
        """A list with `{"summary_text"}` or `{"translation_text"}` for each text. Raises JobError on NaN scores."""
        [texts] = raw
        if texts is None:
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        clean = rows[0].job.lease.parameters.get("clean_up_tokenization_spaces") or False
        how = {"skip_special_tokens": True, "clean_up_tokenization_spaces": clean}
        if self._marian:
            how["use_source_tokenizer"] = False  # 4.57 decodes with the target's pieces; 5.x would take the source's
        with self._tokenizing:
            return [{self._returned: self._tokenizer.decode(self._said(ids), **how)} for ids in texts]

    def _said(self, ids: Sequence[int]) -> Sequence[int]:
        if self._tokenizer.is_fast:
            return ids
        # In plain Python, 4.57 also leaves out ids that no word has: they read as the unknown one. 5.x would write
        # that, or with Marian whatever piece has the number.
        if self._marian:
            ids = [number for number in ids if number in self._tokenizer.decoder]
        words = self._tokenizer.convert_ids_to_tokens(ids)
        special = set(self._tokenizer.all_special_tokens)
        return [number for number, word in zip(ids, words, strict=True) if word not in special]

    def _ask(self, job: Job) -> Ask:
        return self._writing.ask(json.dumps(dict(job.lease.parameters), sort_keys=True))

    def _written(self, rows: Sequence[Encoded], ask: Ask) -> list[list[list[int]] | None]:
        tensors = self._collations[False].tensors(MicroBatch(tuple(rows)))
        seeds = [row.job.lease.parameters.get("seed") for row in rows]
        ids = [row.features["input_ids"] for row in rows]
        fixed = rows[0].most is not None or not self._sameness.loops
        return self._writing.run(tensors, ask, list(zip(seeds, ids, strict=True)), fixed=fixed)

    def _encode(
        self, jobs: Sequence[Job], asks: Sequence[Ask], languages: Pair | None
    ) -> list[list[Encoded] | JobError]:
        encoding = self._tokens([job.input["text"] for job in jobs], languages, truncation=True)
        rows: list[list[Encoded] | JobError] = []
        for place, (job, ask) in enumerate(zip(jobs, asks, strict=True)):
            ids = encoding["input_ids"][place]
            cut = self._was_cut(encoding, place, job.input["text"], languages)
            if cut and not self._limits.truncate:
                limit = self._limits.max_length
                rows.append(
                    JobError("input_too_long", f"longer than the {limit} tokens that this pipeline takes; cut it")
                )
            else:
                rows.append(self._row(job, ask, ids, cut=cut))
        return rows

    def _row(self, job: Job, ask: Ask, ids: list[int], *, cut: bool) -> list[Encoded] | JobError:
        try:
            vocabulary.check(ids, self._words)
        except JobError as error:
            return error
        seeded = job.lease.parameters.get("seed") is not None
        fixed = seeded or self._limits.deterministic
        sharing = self._sameness.of_row(max(len(ids), ask.config.max_length), fixed=fixed)
        row = self._collations[seeded].row(
            job, {"input_ids": array("i", ids)}, truncated=cut, key=(ask.key, seeded, sharing),
            equal_lengths=ask.unpadded or sharing is not Sharing.TOGETHER,
        )  # fmt: skip
        return [replace(row, width=None, most=1) if sharing is Sharing.ALONE else row]

    def _tokens(self, texts: Sequence[str], languages: Pair | None, *, truncation: bool = False) -> Any:
        limit = self._limits.max_length if truncation else None
        how = {"truncation": limit is not None, "max_length": limit}
        whole = [self._prefix + text for text in texts] if languages is None else texts
        given = [text if limit is None else self._shortened(text, limit) for text in whole]
        if languages is None:
            return self._tokenizer(given, **how)
        source, target = languages
        return self._tokenizer._build_translation_inputs(
            given, return_tensors=None, src_lang=source, tgt_lang=target, **how
        )

    def _shortened(self, text: str, limit: int) -> str:
        """A text without most of what is cut off anyway; cut as the whole it comes to the same tokens."""
        if self._long is None or len(text) <= PIECE:
            return text
        return self._long.shortened(text, limit, self._tokenizer.truncation_side)

    def _was_cut(self, encoding: Any, place: int, text: str, languages: Pair | None) -> bool:
        if encoding.encodings is not None:
            return bool(encoding.encodings[place].overflowing)
        if len(encoding["input_ids"][place]) != self._limits.max_length:
            return False
        # A tokenizer in plain Python does not tell; only one that filled the limit needs a second look.
        return len(self._tokens([text], languages)["input_ids"][0]) > self._limits.max_length
