"""The adapter for text-ranking, which pairs a query with each of its texts for a cross-encoder."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from models.documents import to_json
from models.embedding.cross_encoder_files import FUNCTIONS, CrossEncoderFiles
from models.errors import JobError, ModelError
from worker.adapters.encoding.sequence_classifier import SequenceClassifier
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.outputs import label_scores
from worker.adapters.outputs.job_groups import Floats, are_finite, decode_in_groups, stack
from worker.adapters.ranking.activation import activate
from worker.adapters.ranking.pairs import PairTemplate, PairWindow
from worker.adapters.rows import Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization.letter_case import lower_texts
from worker.adapters.tokenization.special_tokens import SpecialTokens
from worker.adapters.tokenization.text_windows import WindowSize, check_stride, describe_room
from worker.adapters.tokenization.token_array import TokenArray
from worker.leasing.leases import Job

# A thousand texts with a query that fills a model of 16,384 tokens.
MAX_TOKENS_OF_JOB = 2**24

FILES = "cross_encoder_files"  # the attribute of a model with what its folder says


class TextRanking(SequenceClassifier):
    """Makes one row of the query and each distinct text; each distinct query or text of a call is tokenized once.

    A text that is read in windows has a row of each window, with the whole query.
    """

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if model.config.num_labels != 1:
            raise ModelError(
                f"the model has {model.config.num_labels} labels, and text-ranking takes one score; use it with "
                "sentiment-analysis, whose text_pair takes the second text"
            )
        self._files: CrossEncoderFiles = getattr(model, FILES, CrossEncoderFiles())
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length, texts=2)
        self._pair_template = PairTemplate(
            tokenizer, self._special_tokens.template, self._special_tokens.max_text_tokens
        )
        check_stride(limits.stride, self._special_tokens.max_text_tokens)
        super().__init__(model, tokenizer, limits, self._special_tokens.template)

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> int | None:
        """As `CompletingAdapter`."""
        files = CrossEncoderFiles.read(folder, model.config.to_dict(), getattr(tokenizer, "chat_template", None))
        setattr(model, FILES, files)
        if files.lowers_case:
            lower_texts(tokenizer)
        return files.max_length

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each distinct text of a job, or for each of its windows; a JobError if a pair is too long."""
        queries = [self._files.prompt + job.input["query"] for job in jobs]
        query_ids = self._tokenize(queries, None)
        room = self._special_tokens.max_text_tokens
        # A query that is longer than the room may still be shorter than a text, which decides how both are cut.
        can_cut = self._limits.should_truncate and all(len(ids) <= (room or 0) for ids in query_ids.values())
        job_texts = [_distinct_texts(job) for job in jobs]
        text_ids = self._tokenize(chain.from_iterable(job_texts), room if can_cut else None)
        return self._encoder.reject_unknown_tokens(
            [
                rows_or_error(self._make_rows, job, query_ids[query], [text_ids[text] for text in texts])
                for job, query, texts in zip(jobs, queries, job_texts, strict=True)
            ]
        )

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> Any:
        """`{"score"}`, or of texts a list of `{"index", "score"}`, best first. Raises JobError if one is not finite."""
        logits, parameters = stack(raw_outputs).reshape(-1), rows[0].job.lease.parameters
        if not np.isfinite(logits).all():
            raise non_finite_scores()
        return self._answer(rows, self._activate(logits, parameters), parameters)

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """The JSON of what `decode` returns, for jobs of any parameters and any number of texts."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(self, parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        logits = stack([raw for _, raw_outputs in jobs for raw in raw_outputs]).reshape(len(jobs), -1)
        scores = self._activate(logits, parameters)
        for (rows, _), is_finite, own in zip(jobs, are_finite(logits), scores, strict=True):
            yield to_json(self._answer(rows, own, parameters)) if is_finite else non_finite_scores()

    def _activate(self, logits: Floats, parameters: Mapping[str, Any]) -> Floats:
        return activate(logits, FUNCTIONS.get(parameters.get("function_to_apply") or "", self._files.activation))

    def _answer(self, rows: Sequence[Row], row_scores: Floats, parameters: Mapping[str, Any]) -> Any:
        """The output of a job with these scores of its rows."""
        job = rows[0].job
        scores = row_scores.tolist() if rows[0].window_count == 1 else self._aggregate(rows, row_scores)
        if "texts" not in job.input:
            return {"score": scores[0]}
        texts = job.input["texts"]
        score_by_text = dict(zip(_distinct_texts(job), scores, strict=True))
        ranking = [{"index": index, "score": score_by_text[text]} for index, text in enumerate(texts)]
        ranking.sort(key=lambda item: item["score"], reverse=True)  # which keeps the order of equal scores
        best = ranking[: parameters.get("top_k")]
        if parameters.get("return_texts"):
            return [item | {"text": texts[item["index"]]} for item in best]
        return best

    def _aggregate(self, rows: Sequence[Row], scores: Floats) -> list[float]:
        """The score of each text from those of its windows."""
        windows = [row.features for row in rows]
        ends = np.flatnonzero(np.diff([window.text_index for window in windows])) + 1
        return [
            self._aggregate_text(windows[start:end], scores[start:end])
            for start, end in pairwise([0, *ends.tolist(), len(rows)])
        ]

    def _aggregate_text(self, windows: Sequence[PairWindow], scores: Floats) -> float:
        score = label_scores.aggregate_windows(
            scores[:, None], self._limits.window_aggregation, lambda: [window.window_tokens for window in windows]
        )
        return float(score[0])

    def _tokenize(self, texts: Iterator[str] | Sequence[str], max_tokens: int | None) -> dict[str, "TokenArray[int]"]:
        distinct = list(dict.fromkeys(texts))
        return dict(zip(distinct, self._special_tokens.tokenize(distinct, max_tokens), strict=True))

    def _make_rows(self, job: Job, query: "TokenArray[int]", texts: Sequence["TokenArray[int]"]) -> list[Row]:
        template, room = self._special_tokens.template, self._special_tokens.max_text_tokens
        lengths = [len(query) + len(text) for text in texts]
        if room is not None and max(lengths) > room and not self._limits.should_truncate:
            if self._limits.truncation == "stride":
                return self._make_window_rows(job, query, texts, room)
            size = f"{max(lengths) + template.token_count:,} tokens with the query"
            raise input_too_long(size, self._limits.max_length, "cut the text or the query")
        self._check_total(sum(length if room is None else min(length, room) for length in lengths))
        features = [self._pair_template.make_pair(query, text) for text in texts]
        return [
            self._encoder.make_row(
                job,
                pair,
                truncated=sum(pair.text_lengths) < length,
                key=self._count_ends(pair.input_ids),
                part_index=part,
                part_count=len(texts),
            )
            for part, (pair, length) in enumerate(zip(features, lengths, strict=True))
        ]

    def _make_window_rows(
        self, job: Job, query: "TokenArray[int]", texts: Sequence["TokenArray[int]"], room: int
    ) -> list[Row]:
        """The rows of the windows of each text in turn; the query stays whole.

        room: tokens of the query and a text in a row.
        """
        template, size = self._special_tokens.template, WindowSize.for_room(room - len(query), self._limits.stride)
        if size.overlap >= size.room:
            raise JobError(
                "query_too_long",
                f"the query has {len(query):,} tokens, which leaves windows of {self._limits.max_length:,} tokens "
                f"{describe_room(size, 'the text')}; shorten the query",
            )
        windows = [size.ranges(len(text), from_the_end=template.truncation_side == "left") for text in texts]
        # The first window's score needs no other window.
        read = [own[:1] if self._limits.window_aggregation == "first" else own for own in windows]
        self._check_total(sum(len(query) + end - start for own in read for start, end in own))
        features = [
            PairWindow(template, query, text, window, index)
            for index, (text, own) in enumerate(zip(texts, read, strict=True))
            for window in own
        ]
        return [
            self._encoder.make_row(
                job,
                window,
                key=self._count_ends(window.input_ids),
                part_index=part,
                part_count=len(features),
                window_count=max(map(len, windows)),
            )
            for part, window in enumerate(features)
        ]

    def _check_total(self, tokens: int) -> None:
        if tokens > MAX_TOKENS_OF_JOB:
            raise JobError(
                "too_many_tokens",
                f"{tokens:,} tokens, because each text is read with the query; at most {MAX_TOKENS_OF_JOB:,} in all: "
                "split the texts, or shorten the query",
            )


def _distinct_texts(job: Job) -> list[str]:
    """The texts of a job in order, each of them once."""
    return [job.input["text"]] if "text" in job.input else list(dict.fromkeys(job.input["texts"]))
