"""The adapter for text classification: sentiment analysis and every other sequence classifier."""

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSequenceClassification, TextClassificationPipeline

from models.errors import JobError
from worker.adapters.encoding.encoder import FIRST_POSITION, Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS, LongTextTokenizer
from worker.leasing.leases import Job


class TextClassification:
    """Encodes jobs in one tokenizer call, and scores them as transformers' own pipeline does."""

    auto_model_class: ClassVar[Any] = AutoModelForSequenceClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._tokenizer = tokenizer
        self._batch_tokenizer = BatchTokenizer(tokenizer, max_length=limits.max_length)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self._limits = limits
        self._pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device, task=task)
        self._postprocess_options = cache(self._resolve_postprocess_options)
        self._encoder = Encoder(model, tokenizer, limits, special_tokens.template_for(tokenizer), sparse_positions=True)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, cut at the limit; JobError `input_too_long` if it must not be cut."""
        # One tokenizer call takes either texts or pairs of texts.
        indices: dict[bool, list[int]] = {False: [], True: []}
        for index, job in enumerate(jobs):
            indices["text_pair" in job.input].append(index)
        encoded: dict[int, list[Row] | JobError] = {}
        for paired, alike in indices.items():
            if alike:
                rows = self._encode_alike([jobs[index] for index in alike], paired=paired)
                encoded.update(zip(alike, rows, strict=True))
        return self._encoder.reject_unknown_tokens([encoded[index] for index in range(len(jobs))])

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(labels,)` for each row."""
        with self._encoder.prepare_inputs(micro_batch, FIRST_POSITION * len(micro_batch.rows)) as tensors:
            logits = self._pipeline._forward(tensors).logits
        return list(logits[: len(micro_batch.rows)].float().cpu())

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[torch.Tensor]) -> Any:
        """`{"label", "score"}`, or with `top_k` a list of them, best first.

        Raises JobError if scores are not finite.
        """
        [logits] = raw_outputs
        if not torch.isfinite(logits).all():
            raise non_finite_scores()
        parameters = self._postprocess_options(tuple(sorted(rows[0].job.lease.parameters.items())))
        return self._pipeline.postprocess({"logits": logits[None]}, **parameters)

    def _resolve_postprocess_options(self, parameters: tuple[tuple[str, Hashable], ...]) -> dict[str, Any]:
        postprocess: dict[str, Any] = self._pipeline._sanitize_parameters(**dict(parameters))[2]
        return postprocess

    def _encode_alike(self, jobs: Sequence[Job], *, paired: bool) -> list[list[Row] | JobError]:
        texts = [job.input["text"] for job in jobs]
        pairs = [job.input["text_pair"] for job in jobs] if paired else None
        if self._limits.max_length is not None and self._long_text_tokenizer is not None:
            self._truncate_long_texts(texts, pairs, self._long_text_tokenizer, self._limits.max_length)
        features, truncated = self._batch_tokenizer.tokenize(texts, pairs)
        if self._limits.should_truncate or not any(truncated):
            return self._encoder.make_single_rows(jobs, features, truncated)
        return [
            input_too_long("too many tokens", self._limits.max_length) if cut else [self._encoder.make_row(job, row)]
            for job, row, cut in zip(jobs, features, truncated, strict=True)
        ]

    def _truncate_long_texts(
        self, texts: list[str], pairs: list[str] | None, tokenizer: LongTextTokenizer, limit: int
    ) -> None:
        """Remove most of what the tokenizer would cut of long texts and pairs; their tokens stay those of the whole."""
        side = self._tokenizer.truncation_side
        for index, text in enumerate(texts):
            if pairs is None and len(text) > PIECE_CHARACTERS:
                texts[index] = tokenizer.truncate_text(text, limit, side)
            elif pairs is not None and len(text) + len(pairs[index]) > PIECE_CHARACTERS:
                texts[index], pairs[index] = tokenizer.truncate_pair(text, pairs[index], limit, side)
