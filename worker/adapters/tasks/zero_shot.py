"""Zero-shot classification: a text and each label's sentence, as a pair, go through a model of inference (NLI)."""

from array import array
from collections.abc import Sequence
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, ZeroShotClassificationPipeline

from models.errors import JobError, ModelError
from models.tasks.zero_shot_classification import ZeroShotParameters
from worker.adapters.encoding.encoder import FIRST_POSITION, Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization.special_tokens import SpecialTokens, TemplatedRow
from worker.leasing.leases import Job

DEFAULT_HYPOTHESIS_TEMPLATE = ZeroShotParameters.model_fields["hypothesis_template"].default


class ZeroShotClassification:
    """One row for each text and label; each text and each label's sentence of a window is tokenized once."""

    auto_model_class: ClassVar[Any] = AutoModelForSequenceClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._limits = limits
        self._pipeline = ZeroShotClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        if not 0 <= self._pipeline.entailment_id < model.config.num_labels or model.config.num_labels < 2:
            raise ModelError(
                "the model is not one of inference (NLI): its config names no label that begins with entail, "
                "beside others"
            )
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length, texts=2)
        self._encoder = Encoder(model, tokenizer, limits, self._special_tokens.template, sparse_positions=True)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        # As transformers' pipeline: a cache helps only who goes on writing.
        self._forward_options = {"use_cache": False} if "use_cache" in signature(model.forward).parameters else {}
        # BART and its kin look at the last end token, and refuse a pass whose rows have different numbers of them.
        self._eos_token_id = model.config.eos_token_id if model.config.is_encoder_decoder else None

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """A row for each label in the job's order; JobError where a label's sentence leaves no room for the text."""
        sentences = [_hypotheses_for(job) for job in jobs]
        distinct = list(dict.fromkeys(sentence for each in sentences for sentence in each))
        tokens = dict(zip(distinct, self._special_tokens.tokenize(distinct), strict=True))
        kept = self._special_tokens.max_text_tokens if self._limits.should_truncate else None
        texts = self._special_tokens.tokenize([job.input["text"] for job in jobs], kept)
        return [
            self._encode_job(job, text, [tokens[sentence] for sentence in each])
            for job, text, each in zip(jobs, texts, sentences, strict=True)
        ]

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(labels of the model,)` for each row."""
        with self._encoder.prepare_inputs(micro_batch, FIRST_POSITION * len(micro_batch.rows)) as tensors:
            logits = self._pipeline.model(**tensors, **self._forward_options).logits
        return list(logits[: len(micro_batch.rows)].float().cpu())

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[torch.Tensor]) -> dict[str, Any]:
        """`{"sequence", "labels", "scores"}`, best first. Raises JobError on scores that are not numbers."""
        job = rows[0].job
        outputs = [
            {"candidate_label": label, "sequence": job.input["text"], "logits": logits[None]}
            for label, logits in zip(_labels_for(job), raw_outputs, strict=True)
        ]
        parameters = self._pipeline._sanitize_parameters(**job.lease.parameters)[2]
        with np.errstate(all="ignore"):  # what becomes of it is looked at below
            output: dict[str, Any] = self._pipeline.postprocess(outputs, **parameters)
        if not np.isfinite(output["scores"]).all():
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        return output

    def _encode_job(self, job: Job, text: "array[int]", hypotheses: list["array[int]"]) -> list[Row] | JobError:
        try:
            return self._make_rows(job, text, hypotheses)
        except JobError as error:
            return error

    def _make_rows(self, job: Job, text: "array[int]", hypotheses: list["array[int]"]) -> list[Row] | JobError:
        """Only the text is ever cut, never a label's sentence."""
        limit, frame = self._limits.max_length, self._special_tokens.template
        longest = max(map(len, hypotheses))
        rows = []
        parts: dict[int | None, array[int]] = {}  # of the text, which labels of equal length share
        for part, sentence in enumerate(hypotheses):
            room = (
                None
                if self._special_tokens.max_text_tokens is None
                else self._special_tokens.max_text_tokens - len(sentence)
            )
            cut = room is not None and len(text) > room
            if cut and not self._limits.should_truncate:
                return JobError(
                    "input_too_long",
                    f"{len(text) + longest + frame.token_count:,} tokens with the longest label's "
                    "sentence; this pipeline "
                    f"takes {limit:,}; cut it",
                )
            if cut and room is not None and room < 1:
                return JobError(
                    "hypothesis_too_long",
                    f"a label's sentence has {longest:,} tokens, which leaves no room for the text within the "
                    f"{limit:,} that this pipeline takes; shorten the label or hypothesis_template",
                )
            if room not in parts:
                parts[room] = frame.truncate(text, room)
            features = TemplatedRow(frame, (parts[room], sentence))
            rows.append(
                self._encoder.make_row(
                    job, features, truncated=cut, key=self._row_key(features), part=part, parts=len(hypotheses)
                )
            )
        return rows

    def _row_key(self, features: TemplatedRow) -> int | None:
        return None if self._eos_token_id is None else features["input_ids"].count(self._eos_token_id)


def _labels_for(job: Job) -> list[str]:
    labels: list[str] = job.input.get("candidate_labels") or job.lease.parameters["candidate_labels"]
    return labels


def _hypotheses_for(job: Job) -> list[str]:
    template = job.lease.parameters.get("hypothesis_template", DEFAULT_HYPOTHESIS_TEMPLATE)
    return [template.format(label) for label in _labels_for(job)]
