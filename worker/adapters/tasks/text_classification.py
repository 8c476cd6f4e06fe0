"""The adapter for text classification: sentiment analysis and every other sequence classifier."""

from array import array
from collections.abc import Hashable, Sequence
from functools import cache, partial
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSequenceClassification, TextClassificationPipeline

from models.errors import JobError
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import FIRST_POSITION, Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.leasing.leases import Job


class TextClassification:
    """Encodes jobs in one tokenizer call, and scores them as transformers' own pipeline does."""

    auto_model_class: ClassVar[Any] = AutoModelForSequenceClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._tokenizer = tokenizer
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self._limits = limits
        self._pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device, task=task)
        self._postprocess_options = cache(self._resolve_postprocess_options)
        self._encoder = Encoder(model, tokenizer, limits, special_tokens.template_for(tokenizer), sparse_positions=True)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, cut at the limit; JobError `input_too_long` if it must not be cut."""
        # One tokenizer call takes either texts or pairs of texts.
        encoded: dict[int, list[Row] | JobError] = {}
        for paired in (False, True):
            indices = [index for index, job in enumerate(jobs) if ("text_pair" in job.input) is paired]
            if indices:
                rows = self._encode_alike([jobs[index] for index in indices], paired=paired)
                encoded.update(zip(indices, rows, strict=True))
        return [encoded[index] for index in range(len(jobs))]

    def forward(self, micro_batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(labels,)` for each row."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""
        count = len(micro_batch.rows)

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            return [self._pipeline._forward(tensors).logits[:count].float()]

        return self._encoder.launch(micro_batch, compute, list, FIRST_POSITION * count)

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
        limit = self._limits.max_length
        texts = [self._truncate_text(job) for job in jobs]
        encoding = self._tokenizer(
            [text for text, _ in texts],
            [pair for _, pair in texts] if paired else None,
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=False,
        )
        columns = dict(encoding)
        return [
            rows_or_error(
                self._make_rows,
                job,
                {name: array("i", values[index]) for name, values in columns.items()},
                is_truncated=long_texts.is_truncated(encoding, index, limit, partial(self._count_tokens, job)),
            )
            for index, job in enumerate(jobs)
        ]

    def _truncate_text(self, job: Job) -> tuple[str, str | None]:
        """A long text, or pair, without most of what the tokenizer would cut; its tokens are those of the whole."""
        text, pair = job.input["text"], job.input.get("text_pair")
        limit, tokenizer, side = self._limits.max_length, self._long_text_tokenizer, self._tokenizer.truncation_side
        if limit is None or tokenizer is None or len(text) + len(pair or "") <= PIECE_CHARACTERS:
            return text, pair
        if pair is None:
            return tokenizer.truncate_text(text, limit, side), None
        return tokenizer.truncate_pair(text, pair, limit, side)

    def _make_rows(self, job: Job, features: dict[str, Any], *, is_truncated: bool) -> list[Row]:
        if is_truncated and not self._limits.should_truncate:
            raise input_too_long("too many tokens", self._limits.max_length)
        return [self._encoder.make_row(job, features, truncated=is_truncated)]

    def _count_tokens(self, job: Job) -> int:
        return len(self._tokenizer(job.input["text"], job.input.get("text_pair"), truncation=False)["input_ids"])
