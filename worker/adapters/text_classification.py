"""Text classification: sentiment analysis and every other sequence classifier."""

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import TextClassificationPipeline

from models.errors import JobError
from worker.adapters.base import Limits
from worker.batching import Encoded, MicroBatch
from worker.claims import Job


class TextClassification:
    """Encodes a window in one tokenizer call; scores as transformers' own pipeline does."""

    def __init__(self, model: Any, tokenizer: Any, limits: Limits) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._limits = limits
        self._pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        self._sanitized = cache(self._sanitize)
        # Without a padding token rows can't share a forward pass.
        self.most_rows = 512 if tokenizer.pad_token_id is not None else 1
        # Padding on the left moves every text to other positions, which most models tell apart: then only texts of one
        # length share a pass. On the right it would be wrong for models that look at the last position (XLNet).
        self._unpadded = tokenizer.padding_side == "left"

    def encode(self, jobs: Sequence[Job]) -> list[Encoded | JobError]:
        """Token ids for each job in order, cut at the limit; JobError `input_too_long` where cutting is not wanted."""
        # One call takes either texts or pairs of texts.
        encoded: dict[int, Encoded | JobError] = {}
        for paired in (False, True):
            part = [place for place, job in enumerate(jobs) if ("text_pair" in job.input) is paired]
            if part:
                encoded.update(zip(part, self._encode([jobs[place] for place in part], paired=paired), strict=True))
        return [encoded[place] for place in range(len(jobs))]

    @torch.inference_mode()
    def forward(self, batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(labels,)` for each row."""
        width = batch.width
        inputs = {name: self._padded(name, batch, width) for name in batch.rows[0].features}
        mask = self._array(batch, width, 0, lambda row: 1)
        logits = self._pipeline._forward({**inputs, "attention_mask": self._on_device(mask)}).logits
        return list(logits.float().cpu())

    def decode(self, row: Encoded, raw: torch.Tensor) -> Any:
        """`{"label", "score"}`, or with `top_k` a list of them, best first. Raises JobError on NaN scores."""
        if not torch.isfinite(raw).all():
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        parameters = row.job.lease.parameters
        return self._pipeline.postprocess({"logits": raw[None]}, **self._sanitized(tuple(sorted(parameters.items()))))

    def _sanitize(self, parameters: tuple[tuple[str, Hashable], ...]) -> dict[str, Any]:
        postprocess: dict[str, Any] = self._pipeline._sanitize_parameters(**dict(parameters))[2]
        return postprocess

    def _encode(self, jobs: Sequence[Job], *, paired: bool) -> list[Encoded | JobError]:
        limit = self._limits.max_length
        encoding = self._tokenizer(
            [job.input["text"] for job in jobs],
            [job.input["text_pair"] for job in jobs] if paired else None,
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=False,
        )
        columns = dict(encoding)
        rows: list[Encoded | JobError] = []
        for row, job in enumerate(jobs):
            features = {name: values[row] for name, values in columns.items()}
            cut = self._was_cut(encoding, row, job)
            if cut and not self._limits.truncate:
                rows.append(
                    JobError("input_too_long", f"longer than the {limit} tokens that this pipeline takes; cut it")
                )
            else:
                length = len(features["input_ids"])
                rows.append(Encoded(job, features, length, truncated=cut, key=length if self._unpadded else None))
        return rows

    def _was_cut(self, encoding: Any, row: int, job: Job) -> bool:
        if encoding.encodings is not None:
            return bool(encoding.encodings[row].overflowing)
        if len(encoding["input_ids"][row]) != self._limits.max_length:
            return False
        # A tokenizer in plain Python does not tell; only one that filled the limit needs a second look.
        whole = self._tokenizer(job.input["text"], job.input.get("text_pair"), truncation=False)
        return len(whole["input_ids"]) > self._limits.max_length

    def _padded(self, name: str, batch: MicroBatch, width: int) -> torch.Tensor:
        filler = {"input_ids": self._tokenizer.pad_token_id, "token_type_ids": self._tokenizer.pad_token_type_id}.get(
            name
        )
        return self._on_device(self._array(batch, width, filler or 0, lambda row: row.features[name]))

    def _array(self, batch: MicroBatch, width: int, filler: int, values: Any) -> torch.Tensor:
        array = np.full((len(batch.rows), width), filler, dtype=np.int64)
        for line, row in zip(array, batch.rows, strict=True):
            line[: row.length] = values(row)
        return torch.from_numpy(array)

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._model.device.type == "cuda":
            return tensor.pin_memory().to(self._model.device, non_blocking=True)
        return tensor.to(self._model.device)
