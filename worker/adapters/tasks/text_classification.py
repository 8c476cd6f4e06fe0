"""The adapter for text classification: sentiment analysis and every other sequence classifier."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from transformers import TextClassificationPipeline
from transformers.pipelines.text_classification import ClassificationFunction, sigmoid, softmax

from models.documents import to_json
from models.errors import JobError, ModelError
from worker.adapters.encoding.sequence_classifier import SequenceClassifier
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.outputs import label_scores
from worker.adapters.outputs.job_groups import Floats, are_finite, decode_in_groups, stack
from worker.adapters.rows import Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS, LongTextTokenizer
from worker.adapters.tokenization.special_tokens import TemplatedRow
from worker.adapters.tokenization.text_windows import WindowedTexts
from worker.layers.spread_weights import pipeline_device
from worker.leasing.leases import Job


class TextClassification(SequenceClassifier):
    """Encodes jobs in one tokenizer call, and scores them as transformers' own pipeline does.

    A text that is read in windows has the scores of all of them together.
    """

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        super().__init__(model, tokenizer, limits, special_tokens.template_for(tokenizer))
        self._tokenizer = tokenizer
        self._batch_tokenizer = BatchTokenizer(tokenizer, max_length=limits.max_length)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        reads_windows = limits.truncation == "stride"
        self._windowed_texts = WindowedTexts(tokenizer, limits) if reads_windows else None
        self._windowed_pairs = _windowed_pairs(tokenizer, limits) if reads_windows else None
        self._pipeline = TextClassificationPipeline(
            model=model, tokenizer=tokenizer, device=pipeline_device(model), task=task
        )
        self._postprocess_options = cache(self._resolve_postprocess_options)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, cut at the limit, or one for each window; JobError `input_too_long` if it can't be."""
        # One tokenizer call takes either texts or pairs of texts.
        indices: dict[bool, list[int]] = {False: [], True: []}
        for index, job in enumerate(jobs):
            indices["text_pair" in job.input].append(index)
        encoded: dict[int, list[Row] | JobError] = {}
        for paired, alike in indices.items():
            if alike:
                encode = self._encode_alike if self._windowed_texts is None else self._encode_windows
                rows = encode([jobs[index] for index in alike], paired=paired)
                encoded.update(zip(alike, rows, strict=True))
        return self._encoder.reject_unknown_tokens([encoded[index] for index in range(len(jobs))])

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> Any:
        """`{"label", "score"}`, or with `top_k` a list of them, best first.

        Raises JobError if scores are not finite.
        """
        logits = torch.stack([torch.as_tensor(raw) for raw in raw_outputs])
        if not torch.isfinite(logits).all():
            raise non_finite_scores()
        options = self._postprocess_options(tuple(sorted(rows[0].job.lease.parameters.items())))
        with np.errstate(all="ignore"):  # the sigmoid of a large number is 0 by way of infinity
            if len(rows) > 1:
                scores = self._score(logits.numpy(), options.get("function_to_apply"))
                logits = torch.from_numpy(self._aggregate(rows, scores))[None]
                options = {**options, "function_to_apply": ClassificationFunction.NONE}
            return self._pipeline.postprocess({"logits": logits}, **options)

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """The JSON of what `decode` returns, for jobs of any parameters."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(self, parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        options = self._postprocess_options(tuple(sorted(parameters.items())))
        logits = stack([raw for _, raw_outputs in jobs for raw in raw_outputs])
        finite = are_finite(logits.reshape(len(jobs), -1))
        with np.errstate(all="ignore"):  # scores of infinite logits are not used
            scores = self._score(logits, options.get("function_to_apply"))
            if len(logits) > len(jobs):
                windows = scores.reshape(len(jobs), -1, scores.shape[1])
                scores = stack([self._aggregate(rows, own) for (rows, _), own in zip(jobs, windows, strict=True)])
        documents = (
            label_scores.ranked_labels(self._label_prefixes, scores, options["top_k"])
            if "top_k" in options
            else label_scores.best_labels(self._label_prefixes, scores)
        )
        if all(finite):
            return documents
        pairs = zip(documents, finite, strict=True)
        return (document if is_finite else non_finite_scores() for document, is_finite in pairs)

    def _aggregate(self, rows: Sequence[Row], scores: Floats) -> Floats:
        """The scores of a text from those of its windows."""
        return label_scores.aggregate_windows(
            scores, self._limits.window_aggregation, lambda: [row.features.window_tokens for row in rows]
        )

    @cached_property
    def _label_prefixes(self) -> list[str]:
        labels = self._pipeline.model.config.id2label
        return [label_scores.label_prefix(to_json(labels[index])) for index in range(len(labels))]

    def _score(self, logits: Floats, function: ClassificationFunction | None) -> Floats:
        """Scores as `TextClassificationPipeline.postprocess` computes them, for all rows at once."""
        function = function or self._default_function
        if function == ClassificationFunction.NONE:
            return logits
        return sigmoid(logits) if function == ClassificationFunction.SIGMOID else softmax(logits)

    @cached_property
    def _default_function(self) -> ClassificationFunction:
        """The function that the pipeline chooses by the model's problem type."""
        config = self._pipeline.model.config
        if config.problem_type == "regression":
            return ClassificationFunction.NONE
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return ClassificationFunction.SIGMOID
        return ClassificationFunction.SOFTMAX

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
            keys = None if self._eos_token_id is None else [self._count_ends(row["input_ids"]) for row in features]
            return self._encoder.make_single_rows(jobs, features, truncated, keys)
        return [
            input_too_long("too many tokens", self._limits.max_length)
            if cut
            else [self._encoder.make_row(job, row, key=self._count_ends(row["input_ids"]))]
            for job, row, cut in zip(jobs, features, truncated, strict=True)
        ]

    def _encode_windows(self, jobs: Sequence[Job], *, paired: bool) -> list[list[Row] | JobError]:
        windowed = self._windowed_pairs if paired else self._windowed_texts
        if not isinstance(windowed, WindowedTexts):
            problem = f"its tokenizer can't read pairs of texts in windows ({windowed}); leave text_pair out"
            return [JobError("unsupported_pair", problem) for _ in jobs]
        names = ("text", "text_pair") if paired else ("text",)
        features = windowed.make_features([[job.input[name] for name in names] for job in jobs])
        return [
            windows if isinstance(windows, JobError) else self._make_window_rows(job, windows)
            for job, windows in zip(jobs, features, strict=True)
        ]

    def _make_window_rows(self, job: Job, windows: Sequence[TemplatedRow]) -> list[Row]:
        # The first window's scores need no other window.
        read = windows[:1] if self._limits.window_aggregation == "first" else windows
        return [
            self._encoder.make_row(
                job,
                window,
                key=self._count_ends(window["input_ids"]),
                part_index=part,
                part_count=len(read),
                window_count=len(windows),
            )
            for part, window in enumerate(read)
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


def _windowed_pairs(tokenizer: Any, limits: Limits) -> WindowedTexts | ModelError:
    """What reads pairs of texts in windows, or the reason why nothing can; most models are for single texts."""
    try:
        return WindowedTexts(tokenizer, limits, texts=2)
    except ModelError as error:
        return error.with_traceback(None)
