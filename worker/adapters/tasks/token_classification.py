"""The adapter for token classification: named entities, parts of speech and other tags, in texts of any length."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from sys import intern
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, TokenClassificationPipeline

from models.errors import JobError, ModelError
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.outputs.entities import EntityFinder, EntityOptions, TaggedTexts, entities_to_json, label_names
from worker.adapters.outputs.entity_spans import Floats
from worker.adapters.outputs.job_groups import decode_in_groups
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, output_or_error, rows_or_error
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS, Integers
from worker.adapters.tokenization.special_tokens import SpecialTokens, Template, TemplatedRow
from worker.adapters.tokenization.text_windows import WindowSize, check_stride
from worker.adapters.tokenization.token_array import TokenArray
from worker.layers.spread_weights import pipeline_device
from worker.leasing.chunking import split_into_chunks
from worker.leasing.leases import Job

# A million Chinese characters make 2,600 windows of 512 tokens that share a quarter. With a stride close to a window's
# length, there would be as many windows as tokens.
MAX_WINDOWS = 4_096
# Each takes about 700 bytes until it is written. A million characters have fewer words.
MAX_ENTITIES = 300_000
# Texts are decoded together up to so many bytes of scores, of which there are a few copies, and of entities.
MAX_CHUNK_BYTES = 8 * 2**20
ENTITY_BYTES = 400  # each token may be one
WORD_LEVEL_STRATEGIES = ("first", "average", "max")


class Window(TemplatedRow):
    """A text, or a part of it.

    offsets: start and end of each token in the text, in characters, `(tokens, 2)`, None = the tokenizer has none.
    """

    __slots__ = ("offsets",)

    def __init__(self, template: Template, ids: "TokenArray[int]", offsets: Integers | None) -> None:
        before, after = template.special_ids
        super().__init__(template, before + ids + after, (len(ids),))
        self.offsets = offsets

    @property
    def offset_pairs(self) -> list[tuple[int, int]] | None:
        """The offsets as Python integers, which take ten times as much memory."""
        return None if self.offsets is None else [(start, end) for start, end in self.offsets.tolist()]


class TokenClassification:
    """Makes one row of each window of a text; transformers' own pipeline merges the windows' tags."""

    auto_model_class: ClassVar[Any] = AutoModelForTokenClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._limits = limits
        self._is_fast = tokenizer.is_fast
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length)
        room = self._special_tokens.max_text_tokens
        self._max_window_tokens = math.inf if room is None else room
        self._pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer, device=pipeline_device(model))
        self._encoder = Encoder(model, tokenizer, limits, self._special_tokens.template)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight
        self._default_stride = self._resolve_stride() if limits.truncation == "stride" else None
        labels = label_names(model.config.id2label)
        self._entity_finder = None if labels is None else EntityFinder(tokenizer, labels)
        # transformers warns once per text, with most tokenizers, of something that no user can change.
        warnings.filterwarnings("ignore", "Tokenizer does not support real words")

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """Each text's windows, a single one without stride; a JobError if the model can't read them."""
        return self._encoder.reject_unknown_tokens(
            [
                rows_or_error(self._make_rows, job, ids, offsets)
                for job, (ids, offsets) in zip(jobs, self._tokenize(jobs), strict=True)
            ]
        )

    def forward(self, micro_batch: MicroBatch) -> list[Floats]:
        """Logits, float32 `(tokens, tags)` for each row."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""
        rows = micro_batch.rows

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            return [self._pipeline.model(**tensors).logits[: len(rows)].float()]

        def split(logits: Floats) -> list[Floats]:
            return [tags[: row.length] for tags, row in zip(logits, rows, strict=True)]

        return self._encoder.launch(micro_batch, compute, split)

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> list[dict[str, Any]]:
        """The tokens or entities, in order. Raises JobError if scores are not finite, or entities too many."""
        if not all(np.isfinite(logits).all() for logits in raw_outputs):
            raise non_finite_scores()
        job = rows[0].job
        parameters = {name: value for name, value in job.lease.parameters.items() if name != "stride"}
        options = self._pipeline._sanitize_parameters(**parameters)[2]
        entities: list[dict[str, Any]] = []
        # Window by window, because Python's numbers take much memory.
        for row, logits in zip(rows, raw_outputs, strict=True):
            window = _pipeline_output(row.features, logits, job.input["text"])
            window_entities = self._pipeline.postprocess([window], **options)
            entities += [{**entity, "word": intern(entity["word"])} for entity in window_entities]
            if len(entities) > MAX_ENTITIES:
                raise _too_many_entities()
        if len(rows) > 1:
            entities = self._pipeline.aggregate_overlapping_entities(entities)
        for entity in entities:
            entity["score"] = float(entity["score"])
        return entities

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """The JSON of what `decode` returns; the entities of many texts are found together, in arrays."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(self, parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        finder, options = self._entity_finder, EntityOptions.from_parameters(parameters)
        rows, logits = jobs[0]
        if finder is None or logits[0].shape[1] != finder.label_count:
            yield from (output_or_error(self.decode, *job) for job in jobs)
        elif len(rows) > 1:
            yield from (self._decode_windows(finder, options, *job) for job in jobs)
        else:
            texts = ((rows[0], raw_outputs[0]) for rows, raw_outputs in jobs)
            for chunk in split_into_chunks(texts, _decoded_bytes, MAX_CHUNK_BYTES):
                yield from _decode_texts(finder, options, chunk)

    def _decode_windows(
        self, finder: EntityFinder, options: EntityOptions, rows: Sequence[Row], raw_outputs: Sequence[Floats]
    ) -> str | Exception:
        """Decode the windows of one text one by one, because Python's numbers take much memory."""
        if not all(np.isfinite(logits).all() for logits in raw_outputs):
            return non_finite_scores()
        entities: list[dict[str, Any]] = []
        for window in zip(rows, raw_outputs, strict=True):
            [found] = finder.find(_join_windows([window]), options)
            entities += [
                {"start": entity.start, "end": entity.end, "score": entity.score, "entity": entity} for entity in found
            ]
            if len(entities) > MAX_ENTITIES:
                return _too_many_entities()
        merged = self._pipeline.aggregate_overlapping_entities(entities)
        return entities_to_json([entity["entity"] for entity in merged], options)

    def _resolve_stride(self) -> int:
        room, stride = self._special_tokens.max_text_tokens, self._limits.stride
        if not self._is_fast:
            raise ModelError("this tokenizer does not report token positions, so windows can't be merged; cut instead")
        if room is None:
            return 0
        check_stride(stride, room)
        return WindowSize.for_room(room, stride).overlap

    def _tokenize(self, jobs: Sequence[Job]) -> list["tuple[TokenArray[int], Integers | None]"]:
        """Each text's tokens and their offsets; a long text that will be cut is tokenized only as far as it is read."""
        texts = [job.input["text"] for job in jobs]
        if not self._is_fast:
            return [(ids, None) for ids in self._special_tokens.tokenize(texts)]
        tokenized: dict[int, tuple[TokenArray[int], Integers | None]] = {}
        short = [index for index, text in enumerate(texts) if len(text) <= PIECE_CHARACTERS]
        if short:
            tokenized.update(
                zip(short, self._special_tokens.tokenize_with_offsets([texts[index] for index in short]), strict=True)
            )
        for index in set(range(len(jobs))).difference(short):
            is_cut = self._limits.should_truncate and self._stride_for(jobs[index]) is None
            max_tokens = self._special_tokens.max_text_tokens if is_cut else None
            tokens = self._special_tokens.tokenize_long(texts[index], max_tokens)
            tokenized[index] = tokens.id_array, np.stack([tokens.starts, tokens.ends], axis=1)
        return [tokenized[index] for index in range(len(jobs))]

    def _check_input(self, job: Job, ids: "TokenArray[int]") -> None:
        """Raise JobError if the model can't read a text with these parameters."""
        strategy = job.lease.parameters.get("aggregation_strategy")
        room, stride = self._special_tokens.max_text_tokens, self._stride_for(job)
        if not self._is_fast and (strategy in WORD_LEVEL_STRATEGIES or stride is not None):
            parameter = "stride" if stride is not None else f"aggregation_strategy {strategy}"
            raise JobError("needs_fast_tokenizer", f"{parameter} needs a fast tokenizer, which this pipeline lacks")
        if room is None:
            return
        if stride is None:
            if len(ids) > room and not self._limits.should_truncate:
                size = len(ids) + self._special_tokens.template.token_count
                raise input_too_long(f"{size:,} tokens", self._limits.max_length, "cut it or set stride")
            return
        if stride >= room:
            raise JobError("stride_too_large", f"stride is {stride:,}, a window has {room:,} tokens; give fewer")
        if len(ids) > room and -(-(len(ids) - room) // (room - stride)) >= MAX_WINDOWS:
            raise JobError("too_many_windows", f"more than {MAX_WINDOWS:,} windows; split the text or lower stride")

    def _make_rows(self, job: Job, ids: "TokenArray[int]", offsets: Integers | None) -> list[Row]:
        self._check_input(job, ids)
        if len(ids) <= self._max_window_tokens:
            return [self._encoder.make_row(job, Window(self._special_tokens.template, ids, offsets))]
        stride = self._stride_for(job)
        ranges = list(self._window_ranges(len(ids), stride))
        is_truncated = stride is None and ranges != [(0, len(ids))]
        windows = [
            Window(self._special_tokens.template, ids[start:end], None if offsets is None else offsets[start:end])
            for start, end in ranges
        ]
        return [
            self._encoder.make_row(
                job, window, truncated=is_truncated, part_index=part, part_count=len(windows), window_count=len(windows)
            )
            for part, window in enumerate(windows)
        ]

    def _stride_for(self, job: Job) -> int | None:
        stride: int | None = job.lease.parameters.get("stride")
        return self._default_stride if stride is None else stride

    def _window_ranges(self, length: int, stride: int | None) -> Iterator[tuple[int, int]]:
        """Start and end of each window, from the side that truncation keeps; only the first without a stride."""
        room = self._special_tokens.max_text_tokens
        if room is None or length <= room:
            yield 0, length
            return
        for start in range(0, length, room if stride is None else room - stride):
            end = min(start + room, length)
            cuts_left = self._special_tokens.template.truncation_side == "left"
            yield (length - end, length - start) if cuts_left else (start, end)
            if stride is None or end == length:
                return


def _pipeline_output(window: Window, logits: Floats, text: str) -> dict[str, Any]:
    """The output of a window's pass in the form that the pipeline's postprocessing takes."""
    before, after = window.template.special_ids
    offsets, no_offset = window.offset_pairs, (0, 0)
    return {
        "logits": torch.from_numpy(logits)[None],
        "sentence": text,
        "input_ids": [window["input_ids"]],
        "offset_mapping": None if offsets is None else [[no_offset] * len(before) + offsets + [no_offset] * len(after)],
        "special_tokens_mask": torch.tensor([window.special_tokens_mask]),
    }


def _decoded_bytes(text: tuple[Row, Floats]) -> int:
    return text[1].nbytes + ENTITY_BYTES * len(text[1])


def _decode_texts(
    finder: EntityFinder, options: EntityOptions, texts: Sequence[tuple[Row, Floats]]
) -> Iterator[str | Exception]:
    """Decode texts of one window each."""
    is_finite = [True] * len(texts)
    if not np.isfinite(np.concatenate([logits for _, logits in texts])).all():
        is_finite = [bool(np.isfinite(logits).all()) for _, logits in texts]
    finite = [text for text, is_finite_text in zip(texts, is_finite, strict=True) if is_finite_text]
    found = iter(finder.find(_join_windows(finite), options) if finite else [])
    for is_finite_text in is_finite:
        if not is_finite_text:
            yield non_finite_scores()
            continue
        entities = next(found)
        yield _too_many_entities() if len(entities) > MAX_ENTITIES else entities_to_json(entities, options)


def _join_windows(windows: Sequence[tuple[Row, Floats]]) -> TaggedTexts:
    before, after = map(len, windows[0][0].features.template.special_ids)
    ids = [row.features.input_ids[before : row.length - after] for row, _ in windows]
    offsets = [row.features.offsets for row, _ in windows]
    joined = None if offsets[0] is None else np.concatenate(offsets)
    return TaggedTexts(
        texts=[row.job.input["text"] for row, _ in windows],
        edges=np.cumsum([0, *map(len, ids)]),
        ids=np.concatenate(ids),
        logits=np.concatenate([logits[before : row.length - after] for row, logits in windows]),
        starts=None if joined is None else joined[:, 0],
        ends=None if joined is None else joined[:, 1],
        first_index=before,
    )


def _too_many_entities() -> JobError:
    return JobError("output_too_large", f"more than {MAX_ENTITIES:,} entities; split the text")
