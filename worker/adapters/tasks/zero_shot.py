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
from worker.adapters.encoding.encoder import FIRST, Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import Encoded, MicroBatch
from worker.adapters.tokenization.special_tokens import Framed, Framing
from worker.leasing.leases import Job

TEMPLATE = ZeroShotParameters.model_fields["hypothesis_template"].default


class ZeroShotClassification:
    """One row for each text and label; each text and each label's sentence of a window is tokenized once."""

    head: ClassVar[Any] = AutoModelForSequenceClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._limits = limits
        self._pipeline = ZeroShotClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        if not 0 <= self._pipeline.entailment_id < model.config.num_labels or model.config.num_labels < 2:
            raise ModelError(
                "the model is not one of inference (NLI): its config names no label that begins with entail, "
                "beside others"
            )
        self._framing = Framing(tokenizer, limits.max_length, texts=2)
        self._encoder = Encoder(model, tokenizer, limits, self._framing.frame, few=True)
        self.most_rows, self.packs = self._encoder.most_rows, self._encoder.packs
        # As transformers' pipeline: a cache helps only who goes on writing.
        self._extra = {"use_cache": False} if "use_cache" in signature(model.forward).parameters else {}
        # BART and its kin look at the last end token, and refuse a pass whose rows have different numbers of them.
        self._counted = model.config.eos_token_id if model.config.is_encoder_decoder else None

    def encode(self, jobs: Sequence[Job]) -> list[list[Encoded] | JobError]:
        """A row for each label in the job's order; JobError where a label's sentence leaves no room for the text."""
        sentences = [_sentences(job) for job in jobs]
        distinct = list(dict.fromkeys(sentence for each in sentences for sentence in each))
        tokens = dict(zip(distinct, self._framing.tokens(distinct), strict=True))
        kept = self._framing.room if self._limits.truncate else None
        texts = self._framing.tokens([job.input["text"] for job in jobs], kept)
        return [
            self._encoded(job, text, [tokens[sentence] for sentence in each])
            for job, text, each in zip(jobs, texts, sentences, strict=True)
        ]

    @torch.inference_mode()
    def forward(self, batch: MicroBatch) -> list[torch.Tensor]:
        """Logits, float32 `(labels of the model,)` for each row."""
        with self._encoder.tensors(batch, FIRST * len(batch.rows)) as tensors:
            logits = self._pipeline.model(**tensors, **self._extra).logits
        return list(logits[: len(batch.rows)].float().cpu())

    def decode(self, rows: Sequence[Encoded], raw: Sequence[torch.Tensor]) -> dict[str, Any]:
        """`{"sequence", "labels", "scores"}`, best first. Raises JobError on scores that are not numbers."""
        job = rows[0].job
        outputs = [
            {"candidate_label": label, "sequence": job.input["text"], "logits": logits[None]}
            for label, logits in zip(_labels(job), raw, strict=True)
        ]
        parameters = self._pipeline._sanitize_parameters(**job.lease.parameters)[2]
        with np.errstate(all="ignore"):  # what becomes of it is looked at below
            output: dict[str, Any] = self._pipeline.postprocess(outputs, **parameters)
        if not np.isfinite(output["scores"]).all():
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        return output

    def _encoded(self, job: Job, text: "array[int]", sentences: list["array[int]"]) -> list[Encoded] | JobError:
        try:
            return self._rows(job, text, sentences)
        except JobError as error:
            return error

    def _rows(self, job: Job, text: "array[int]", sentences: list["array[int]"]) -> list[Encoded] | JobError:
        """Only the text is ever cut, never a label's sentence."""
        limit, frame = self._limits.max_length, self._framing.frame
        longest = max(map(len, sentences))
        rows = []
        parts: dict[int | None, array[int]] = {}  # of the text, which labels of equal length share
        for part, sentence in enumerate(sentences):
            room = None if self._framing.room is None else self._framing.room - len(sentence)
            cut = room is not None and len(text) > room
            if cut and not self._limits.truncate:
                return JobError(
                    "input_too_long",
                    f"{len(text) + longest + frame.size:,} tokens with the longest label's sentence; this pipeline "
                    f"takes {limit:,}; cut it",
                )
            if cut and room is not None and room < 1:
                return JobError(
                    "hypothesis_too_long",
                    f"a label's sentence has {longest:,} tokens, which leaves no room for the text within the "
                    f"{limit:,} that this pipeline takes; shorten the label or hypothesis_template",
                )
            if room not in parts:
                parts[room] = frame.cut(text, room)
            features = Framed(frame, (parts[room], sentence))
            rows.append(
                self._encoder.row(
                    job, features, truncated=cut, key=self._key(features), part=part, parts=len(sentences),
                )
            )  # fmt: skip
        return rows

    def _key(self, features: Framed) -> int | None:
        return None if self._counted is None else features["input_ids"].count(self._counted)


def _labels(job: Job) -> list[str]:
    labels: list[str] = job.input.get("candidate_labels") or job.lease.parameters["candidate_labels"]
    return labels


def _sentences(job: Job) -> list[str]:
    template = job.lease.parameters.get("hypothesis_template", TEMPLATE)
    return [template.format(label) for label in _labels(job)]
