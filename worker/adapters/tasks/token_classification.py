"""Token classification: named entities, parts of speech and other tags, over texts of any length."""

import warnings
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, TokenClassificationPipeline

from models.errors import JobError, ModelError
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS, Integers
from worker.adapters.tokenization.special_tokens import SpecialTokens, TemplatedRow
from worker.leasing.leases import Job

# 1 M characters of Chinese in windows of 512 with a quarter shared are 2,600. A stride close to the windows' own length
# would make as many windows as the text has tokens.
MAX_WINDOWS = 4_096
# Each takes some 700 bytes until it is written. A tag for every word of a million characters is fewer.
MAX_ENTITIES = 300_000
# What neighbouring windows share where nobody says: one part in so many.
DEFAULT_OVERLAP_DIVISOR = 4
WORD_LEVEL_STRATEGIES = ("first", "average", "max")


@dataclass(frozen=True, slots=True)
class Window(TemplatedRow):
    """A text, or a stretch of it; `places` are pairs: where in the text each token begins and ends, in characters."""

    offsets: Integers | None

    @property
    def offset_pairs(self) -> list[tuple[int, int]] | None:
        """The same in Python's numbers, which take ten times as much memory."""
        return None if self.offsets is None else [(begin, end) for begin, end in self.offsets.tolist()]


class TokenClassification:
    """One row for each window of a text; the windows' tags are joined by transformers' own pipeline."""

    auto_model_class: ClassVar[Any] = AutoModelForTokenClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._limits = limits
        self._is_fast = tokenizer.is_fast
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length)
        self._pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        self._encoder = Encoder(model, tokenizer, limits, self._special_tokens.template)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self._default_stride = self._resolve_stride() if limits.truncation == "stride" else None
        # Said for every token; true of most tokenizers, and nothing that anybody could mend.
        warnings.filterwarnings("ignore", "Tokenizer does not support real words")

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """Each text's windows, one unless it is read by stride; JobError where a text or the parameters can't be."""
        if not jobs:
            return []
        return [
            self._input_error(job, ids) or self._encode_job(job, ids, places)
            for job, (ids, places) in zip(jobs, self._tokenize(jobs), strict=True)
        ]

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(tokens, tags)` for each row."""
        with self._encoder.prepare_inputs(micro_batch) as tensors:
            logits = self._pipeline.model(**tensors).logits[: len(micro_batch.rows)].float().cpu()
        return [tags[: row.length] for tags, row in zip(logits, micro_batch.rows, strict=True)]

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
        """The tokens or entities, in order. Raises JobError on scores that are no numbers, and on too many entities."""
        if not all(torch.isfinite(logits).all() for logits in raw_outputs):
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        job = rows[0].job
        given = {name: value for name, value in job.lease.parameters.items() if name != "stride"}
        how = self._pipeline._sanitize_parameters(**given)[2]
        entities: list[dict[str, Any]] = []
        for row, logits in zip(rows, raw_outputs, strict=True):  # one by one: Python's own numbers take much memory
            found = self._pipeline.postprocess([_pipeline_output(row.features, logits, job.input["text"])], **how)
            entities += [{**entity, "word": intern(entity["word"])} for entity in found]
            if len(entities) > MAX_ENTITIES:
                raise JobError("answer_too_large", f"more than {MAX_ENTITIES:,} entities; split the text")
        if len(rows) > 1:
            entities = self._pipeline.aggregate_overlapping_entities(entities)
        for entity in entities:
            entity["score"] = float(entity["score"])
        return entities

    def _resolve_stride(self) -> int:
        room, stride = self._special_tokens.max_text_tokens, self._limits.stride
        if not self._is_fast:
            raise ModelError("this tokenizer can't say where its tokens are, so windows can't be joined; cut instead")
        if room is None:
            return 0
        if stride is None:
            return room // DEFAULT_OVERLAP_DIVISOR
        if stride >= room:
            raise ModelError(f"stride {stride} is too large: windows have {room} tokens; give fewer")
        return stride

    def _tokenize(self, jobs: Sequence[Job]) -> list["tuple[array[int], Integers | None]"]:
        """Each text's tokens and their places; of a long one that is cut no more than is read."""
        texts = [job.input["text"] for job in jobs]
        if not self._is_fast:
            return [(ids, None) for ids in self._special_tokens.tokenize(texts)]
        found: list[tuple[array[int], Integers | None]] = [(array("i"), None)] * len(jobs)
        short = [place for place, text in enumerate(texts) if len(text) <= PIECE_CHARACTERS]
        if short:
            encoding = self._special_tokens.encode_without_special(
                [texts[place] for place in short], return_offsets_mapping=True
            )
            for place, ids, offsets in zip(short, encoding["input_ids"], encoding["offset_mapping"], strict=True):
                found[place] = array("i", ids), np.array(offsets, np.int32).reshape(-1, 2)
        for place in sorted(set(range(len(jobs))).difference(short)):
            cuts = self._limits.should_truncate and self._stride_for(jobs[place]) is None
            stretch = self._special_tokens.tokenize_long(
                texts[place], self._special_tokens.max_text_tokens if cuts else None
            )
            found[place] = stretch.id_array, np.stack([stretch.starts, stretch.ends], axis=1)
        return found

    def _input_error(self, job: Job, ids: "array[int]") -> JobError | None:
        """Why this model can't read a text with these parameters, if so."""
        strategy = job.lease.parameters.get("aggregation_strategy")
        room, stride = self._special_tokens.max_text_tokens, self._stride_for(job)
        if not self._is_fast and (strategy in WORD_LEVEL_STRATEGIES or stride is not None):
            what = "stride" if stride is not None else f"aggregation_strategy {strategy}"
            return JobError("needs_fast_tokenizer", f"{what} needs a fast tokenizer, which this pipeline lacks")
        if room is None:
            return None
        if stride is None:
            if len(ids) > room and not self._limits.should_truncate:
                size, limit = len(ids) + self._special_tokens.template.token_count, self._limits.max_length
                return JobError(
                    "input_too_long", f"{size:,} tokens; this pipeline takes {limit:,}; cut it or set stride"
                )
            return None
        if stride >= room:
            return JobError("stride_too_large", f"stride is {stride:,}, a window has {room:,} tokens; give fewer")
        if len(ids) > room and -(-(len(ids) - room) // (room - stride)) >= MAX_WINDOWS:
            return JobError("too_many_windows", f"more than {MAX_WINDOWS:,} windows; split the text or lower stride")
        return None

    def _encode_job(self, job: Job, ids: "array[int]", offsets: Integers | None) -> list[Row] | JobError:
        try:
            return self._make_rows(job, ids, offsets)
        except JobError as error:
            return error

    def _make_rows(self, job: Job, ids: "array[int]", offsets: Integers | None) -> list[Row]:
        stride = self._stride_for(job)
        spans = list(self._window_ranges(len(ids), stride))
        cut = stride is None and spans != [(0, len(ids))]
        return [
            self._encoder.make_row(
                job,
                Window(
                    self._special_tokens.template, (ids[start:stop],), None if offsets is None else offsets[start:stop]
                ),
                truncated=cut,
                part=part,
                parts=len(spans),
            )
            for part, (start, stop) in enumerate(spans)
        ]

    def _stride_for(self, job: Job) -> int | None:
        given: int | None = job.lease.parameters.get("stride")
        return self._default_stride if given is None else given

    def _window_ranges(self, length: int, stride: int | None) -> Iterator[tuple[int, int]]:
        """Where the windows are, from the side that is kept when a text is cut; the first alone without a stride."""
        room = self._special_tokens.max_text_tokens
        if room is None or length <= room:
            yield 0, length
            return
        for start in range(0, length, room if stride is None else room - stride):
            stop = min(start + room, length)
            yield (
                (length - stop, length - start)
                if self._special_tokens.template.truncation_side == "left"
                else (start, stop)
            )
            if stride is None or stop == length:
                return


def _pipeline_output(window: Window, logits: torch.Tensor, text: str) -> dict[str, Any]:
    """A window as the pipeline's postprocessing takes it."""
    before, after = window.template.special_ids
    nowhere = (0, 0)
    offsets = window.offset_pairs
    return {
        "logits": logits[None],
        "sentence": text,
        "input_ids": [window["input_ids"]],
        "offset_mapping": None if offsets is None else [[nowhere] * len(before) + offsets + [nowhere] * len(after)],
        "special_tokens_mask": torch.tensor([window.special_tokens_mask]),
    }
