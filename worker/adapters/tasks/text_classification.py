"""Text classification: sentiment analysis and every other sequence classifier."""

from array import array
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSequenceClassification, TextClassificationPipeline

from models.errors import JobError
from worker.adapters.encoding.encoder import FIRST, Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import Encoded, MicroBatch
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.long_texts import PIECE
from worker.leasing.leases import Job


class TextClassification:
    """Encodes jobs in one tokenizer call; scores as transformers' own pipeline does."""

    head: ClassVar[Any] = AutoModelForSequenceClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._tokenizer = tokenizer
        self._long = long_texts.of(tokenizer)
        self._limits = limits
        self._pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device, task=task)
        self._sanitized = cache(self._sanitize)
        self._encoder = Encoder(model, tokenizer, limits, special_tokens.frame(tokenizer), few=True)
        self.most_rows, self.packs = self._encoder.most_rows, self._encoder.packs

    def encode(self, jobs: Sequence[Job]) -> list[list[Encoded] | JobError]:
        """Token ids for each job in order, cut at the limit; JobError `input_too_long` where cutting is not wanted."""
        # One call takes either texts or pairs of texts.
        encoded: dict[int, list[Encoded] | JobError] = {}
        for paired in (False, True):
            part = [place for place, job in enumerate(jobs) if ("text_pair" in job.input) is paired]
            if part:
                encoded.update(zip(part, self._encode([jobs[place] for place in part], paired=paired), strict=True))
        return [encoded[place] for place in range(len(jobs))]

    @torch.inference_mode()
    def forward(self, batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(labels,)` for each row."""
        with self._encoder.tensors(batch, FIRST * len(batch.rows)) as tensors:
            logits = self._pipeline._forward(tensors).logits
        return list(logits[: len(batch.rows)].float().cpu())

    def decode(self, rows: Sequence[Encoded], raw: Sequence[torch.Tensor]) -> Any:
        """`{"label", "score"}`, or with `top_k` a list of them, best first. Raises JobError on NaN scores."""
        [logits] = raw
        if not torch.isfinite(logits).all():
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        parameters = self._sanitized(tuple(sorted(rows[0].job.lease.parameters.items())))
        return self._pipeline.postprocess({"logits": logits[None]}, **parameters)

    def _sanitize(self, parameters: tuple[tuple[str, Hashable], ...]) -> dict[str, Any]:
        postprocess: dict[str, Any] = self._pipeline._sanitize_parameters(**dict(parameters))[2]
        return postprocess

    def _encode(self, jobs: Sequence[Job], *, paired: bool) -> list[list[Encoded] | JobError]:
        limit = self._limits.max_length
        texts = [self._shortened(job) for job in jobs]
        encoding = self._tokenizer(
            [text for text, _ in texts],
            [pair for _, pair in texts] if paired else None,
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=False,
        )
        columns = dict(encoding)
        rows: list[list[Encoded] | JobError] = []
        for row, job in enumerate(jobs):
            features = {name: array("i", values[row]) for name, values in columns.items()}
            cut = self._was_cut(encoding, row, job)
            if cut and not self._limits.truncate:
                rows.append(
                    JobError("input_too_long", f"longer than the {limit} tokens that this pipeline takes; cut it")
                )
            else:
                rows.append(self._row(job, features, cut=cut))
        return rows

    def _shortened(self, job: Job) -> tuple[str, str | None]:
        """A text, or a pair, without most of what is cut off anyway; cut as the whole it comes to the same tokens."""
        text, pair, limit, long = job.input["text"], job.input.get("text_pair"), self._limits.max_length, self._long
        if limit is None or long is None or len(text) + len(pair or "") <= PIECE:
            return text, pair
        side = self._tokenizer.truncation_side
        return (
            (long.shortened(text, limit, side), None) if pair is None else long.shortened_pair(text, pair, limit, side)
        )

    def _row(self, job: Job, features: dict[str, Any], *, cut: bool) -> list[Encoded] | JobError:
        try:
            return [self._encoder.row(job, features, truncated=cut)]
        except JobError as error:
            return error

    def _was_cut(self, encoding: Any, row: int, job: Job) -> bool:
        if encoding.encodings is not None:
            return bool(encoding.encodings[row].overflowing)
        if len(encoding["input_ids"][row]) != self._limits.max_length:
            return False
        # A tokenizer in plain Python does not tell; only one that filled the limit needs a second look.
        whole = self._tokenizer(job.input["text"], job.input.get("text_pair"), truncation=False)
        return len(whole["input_ids"]) > self._limits.max_length
