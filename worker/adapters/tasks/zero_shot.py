"""The adapter for zero-shot classification, which pairs a text with each label's sentence for an NLI model."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import ZeroShotClassificationPipeline

from models.documents import to_json
from models.errors import JobError, ModelError
from models.tasks.zero_shot_classification import ZeroShotParameters
from worker.adapters.encoding.sequence_classifier import SequenceClassifier
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.outputs import label_scores
from worker.adapters.outputs.job_groups import Floats, are_finite, decode_in_groups, stack
from worker.adapters.rows import Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization.special_tokens import SpecialTokens, TemplatedRow
from worker.adapters.tokenization.text_windows import TextWindow, WindowSize, check_stride, describe_room
from worker.adapters.tokenization.token_array import TokenArray
from worker.layers.spread_weights import pipeline_device
from worker.leasing.leases import Job

Integers = npt.NDArray[np.int64]

DEFAULT_HYPOTHESIS_TEMPLATE = ZeroShotParameters.model_fields["hypothesis_template"].default


# Each window is read with each label. A million Chinese characters make 5,500 windows of 256 tokens.
MAX_ROWS_OF_JOB = 100_000


class Hypothesis(NamedTuple):
    """A label's sentence, tokenized.

    ids: its tokens.
    tokens: its tokens with the special ones behind them.
    ends: end tokens among them all.
    """

    ids: "TokenArray[int]"
    tokens: "TokenArray[int]"
    ends: int

    @property
    def length(self) -> int:
        """Its tokens without special ones."""
        return len(self.ids)


class ZeroShotClassification(SequenceClassifier):
    """Makes one row of each text and label; each distinct text or sentence of a call is tokenized once.

    A text that is read in windows has a row of each window and label: first those of the first window.
    """

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._pipeline = ZeroShotClassificationPipeline(model=model, tokenizer=tokenizer, device=pipeline_device(model))
        if not 0 <= self._pipeline.entailment_id < model.config.num_labels or model.config.num_labels < 2:
            raise ModelError(
                "the model is not an inference (NLI) model: its config needs a label that begins with entail, "
                "and others"
            )
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length, texts=2)
        check_stride(limits.stride, self._special_tokens.max_text_tokens)
        super().__init__(model, tokenizer, limits, self._special_tokens.template)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each label, in the job's order, of each window; a JobError if no text fits beside a sentence."""
        job_sentences = [_sentences_for(job) for job in jobs]
        distinct = list(dict.fromkeys(chain.from_iterable(job_sentences)))
        hypotheses = {
            sentence: self._make_hypothesis(ids)
            for sentence, ids in zip(distinct, self._special_tokens.tokenize(distinct), strict=True)
        }
        max_tokens = self._special_tokens.max_text_tokens if self._limits.should_truncate else None
        texts = self._special_tokens.tokenize([job.input["text"] for job in jobs], max_tokens)
        return self._encoder.reject_unknown_tokens(
            [
                rows_or_error(self._make_rows, job, text, [hypotheses[sentence] for sentence in sentences])
                for job, text, sentences in zip(jobs, texts, job_sentences, strict=True)
            ]
        )

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> dict[str, Any]:
        """`{"sequence", "labels", "scores"}`, best first. Raises JobError if scores are not finite."""
        labels = _labels_for(rows[0].job)
        windows = [
            self._decode_window(rows[0].job, raw_outputs[start : start + len(labels)])
            for start in range(0, len(rows), len(labels))
        ]
        if not all(np.isfinite(window["scores"]).all() for window in windows):
            raise non_finite_scores()
        if len(windows) == 1:
            return windows[0]
        scores_by_label = [dict(zip(window["labels"], window["scores"], strict=True)) for window in windows]
        scores = np.array([[scores[label] for label in labels] for scores in scores_by_label], np.float32)
        return _rank(rows[0].job, self._aggregate(rows, scores))

    def _decode_window(self, job: Job, raw_outputs: Sequence[Floats]) -> dict[str, Any]:
        """What a window by itself would give, which may not be finite."""
        outputs = [
            {"candidate_label": label, "sequence": job.input["text"], "logits": torch.as_tensor(logits)[None]}
            for label, logits in zip(_labels_for(job), raw_outputs, strict=True)
        ]
        parameters = self._pipeline._sanitize_parameters(**job.lease.parameters)[2]
        with np.errstate(all="ignore"):  # the result is checked by the caller
            output: dict[str, Any] = self._pipeline.postprocess(outputs, **parameters)
        return output

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """The JSON of what `decode` returns, for jobs of any parameters and any number of labels."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(self, parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        label_count = len(_labels_for(jobs[0][0][0].job))
        logits = stack([raw for _, raw_outputs in jobs for raw in raw_outputs])
        with np.errstate(all="ignore"):  # the result is checked below
            scores = self._score(
                logits.reshape(-1, label_count, logits.shape[1]), is_multi_label=parameters.get("multi_label", False)
            )
        finite = are_finite(scores.reshape(len(jobs), -1))
        if len(scores) > len(jobs):
            windows = scores.reshape(len(jobs), -1, label_count)
            with np.errstate(all="ignore"):
                scores = stack([self._aggregate(rows, own) for (rows, _), own in zip(jobs, windows, strict=True)])
        order = scores.argsort(axis=1)[:, ::-1]
        ranked = np.take_along_axis(scores, order, axis=1)
        labels_json: dict[int, list[str]] = {}  # most jobs share the list of their batch
        for (rows, _), is_finite, places, values in zip(jobs, finite, order, ranked, strict=True):
            labels = _labels_for(rows[0].job)
            names = labels_json.get(id(labels)) or labels_json.setdefault(
                id(labels), [to_json(name) for name in labels]
            )
            yield _ranking_json(rows[0].job, names, places, values) if is_finite else non_finite_scores()

    def _score(self, logits: Floats, *, is_multi_label: bool) -> Floats:
        """Scores as `ZeroShotClassificationPipeline.postprocess` computes them.

        logits: `(windows, labels, model labels)`.
        """
        entailment = self._pipeline.entailment_id
        if not is_multi_label and logits.shape[1] > 1:
            exponentials = np.exp(logits[..., entailment])
            return exponentials / exponentials.sum(-1, keepdims=True)
        contradiction = -1 if entailment == 0 else 0
        exponentials = np.exp(logits[..., [contradiction, entailment]])
        return (exponentials / exponentials.sum(-1, keepdims=True))[..., 1]

    def _aggregate(self, rows: Sequence[Row], scores: Floats) -> Floats:
        """The scores of a text from those of its windows, `(windows, labels)`."""
        first_rows = rows[:: scores.shape[1]]
        return label_scores.aggregate_windows(
            scores, self._limits.window_aggregation, lambda: [row.features.window_tokens for row in first_rows]
        )

    def _make_hypothesis(self, ids: "TokenArray[int]") -> "Hypothesis":
        tokens = ids + self._special_tokens.template.special_ids[2]
        return Hypothesis(ids, tokens, self._count_ends(tokens) or 0)

    def _make_rows(self, job: Job, text: "TokenArray[int]", hypotheses: Sequence["Hypothesis"]) -> list[Row]:
        """Only the text is ever cut, never a label's sentence."""
        template, max_tokens = self._special_tokens.template, self._special_tokens.max_text_tokens
        longest = max([hypothesis.length for hypothesis in hypotheses])
        is_cut = max_tokens is not None and len(text) + longest > max_tokens
        if is_cut and max_tokens is not None and self._limits.truncation == "stride":
            return self._make_window_rows(job, text, hypotheses, max_tokens - longest)
        self._check_lengths(len(text), longest)
        before, between, _ = template.special_ids
        head, length = before + text + between, len(text)
        ends = self._count_ends(head)
        rows = []
        for part, hypothesis in enumerate(hypotheses):
            if is_cut and max_tokens is not None:
                kept = template.truncate(text, max_tokens - hypothesis.length)
                head, length = before + kept + between, len(kept)
                ends = self._count_ends(head)
            features = TemplatedRow(template, head + hypothesis.tokens, (length, hypothesis.length))
            row = self._encoder.make_row(
                job,
                features,
                truncated=length < len(text),
                key=None if ends is None else ends + hypothesis.ends,
                part_index=part,
                part_count=len(hypotheses),
            )
            rows.append(row)
        return rows

    def _make_window_rows(
        self, job: Job, text: "TokenArray[int]", hypotheses: Sequence["Hypothesis"], room: int
    ) -> list[Row]:
        """The rows of each window in turn; windows have room beside the longest sentence, so all labels see the same.

        room: tokens of the text in a window.
        """
        template, size = self._special_tokens.template, WindowSize.for_room(room, self._limits.stride)
        if size.overlap >= size.room:
            raise JobError(
                "hypothesis_too_long",
                f"a label's sentence leaves windows of {self._limits.max_length:,} tokens "
                f"{describe_room(size, 'the text')}; shorten the label or hypothesis_template",
            )
        ranges = size.ranges(len(text), from_the_end=template.truncation_side == "left")
        # The first window's scores need no other window.
        read = ranges[:1] if self._limits.window_aggregation == "first" else ranges
        if len(read) * len(hypotheses) > MAX_ROWS_OF_JOB:
            raise JobError(
                "too_many_windows",
                f"{len(read):,} windows for each of {len(hypotheses):,} labels; at most {MAX_ROWS_OF_JOB:,} in all: "
                "split the text or the labels",
            )
        pairs = [(text, hypothesis.ids) for hypothesis in hypotheses]
        features = [TextWindow(template, pair, 0, window) for window in read for pair in pairs]
        return [
            self._encoder.make_row(
                job,
                window,
                key=self._count_ends(window.input_ids),
                part_index=part,
                part_count=len(features),
                window_count=len(ranges),
            )
            for part, window in enumerate(features)
        ]

    def _check_lengths(self, text_tokens: int, hypothesis_tokens: int) -> None:
        """Raise JobError if the text does not fit beside the longest hypothesis and can't be cut so that it does."""
        limit, max_tokens = self._limits.max_length, self._special_tokens.max_text_tokens
        if max_tokens is None or text_tokens + hypothesis_tokens <= max_tokens:
            return
        if not self._limits.should_truncate:
            size = text_tokens + hypothesis_tokens + self._special_tokens.template.token_count
            raise input_too_long(f"{size:,} tokens with the longest label's sentence", limit)
        if hypothesis_tokens >= max_tokens:
            raise JobError(
                "hypothesis_too_long",
                f"a label's sentence has {hypothesis_tokens:,} tokens, which leaves no room for the text within the "
                f"{limit:,} that this pipeline takes; shorten the label or hypothesis_template",
            )


def _ranking_json(job: Job, label_names: Sequence[str], order: Integers, scores: Floats) -> str:
    """The output of `decode` as JSON, from the labels' JSON; scores are in the given order."""
    labels = ",".join([label_names[place] for place in order.tolist()])
    values = ",".join(map(repr, scores.tolist()))
    return f'{{"sequence":{to_json(job.input["text"])},"labels":[{labels}],"scores":[{values}]}}'


def _rank(job: Job, scores: Floats) -> dict[str, Any]:
    """The output of a job with these scores, as `ZeroShotClassificationPipeline.postprocess` ranks them."""
    order, labels = scores.argsort()[::-1], _labels_for(job)
    return {
        "sequence": job.input["text"],
        "labels": [labels[place] for place in order],
        "scores": scores[order].tolist(),
    }


def _labels_for(job: Job) -> list[str]:
    labels: list[str] = job.input.get("candidate_labels") or job.lease.parameters["candidate_labels"]
    return labels


def _sentences_for(job: Job) -> list[str]:
    template = job.lease.parameters.get("hypothesis_template", DEFAULT_HYPOTHESIS_TEMPLATE)
    return [template.format(label) for label in _labels_for(job)]
