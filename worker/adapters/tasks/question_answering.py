"""Question answering: the spans of a context that answer a question.

transformers 5 has no such pipeline any more. This follows what 4.57.6 answers, whose answers tests/golden holds.
"""

import inspect
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering

from models.errors import JobError, ModelError
from models.tasks.question_answering import QuestionAnsweringParameters
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.qa_spans import AnswerSpans, Floats, best_spans
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.adapters.tokenization.qa_windows import Passage, Window
from worker.leasing.leases import Job

# The pipeline's own defaults, in tokens.
DEFAULT_WINDOW_TOKENS, DEFAULT_OVERLAP_TOKENS = 384, 128

# A million characters in windows of 384 tokens with 128 shared are at most some 4,000.
MAX_WINDOWS = 5_000

# How a pair is tokenized before it is cut into windows, and any pair.
WITHOUT_TRUNCATION = {"truncation": False, "return_attention_mask": False}
EXAMPLE_PAIR = ("a", "b")

# Models that tell the two texts apart by `token_type_ids`, but whose tokenizers in transformers 5 no longer say so.
TOKEN_TYPE_MODELS = {"albert", "funnel", "nystromformer", "rembert", "roformer", "splinter", "xlnet"}


class QuestionAnswering:
    """Reads each context in windows, one row for each; the windows' answers are merged."""

    auto_model_class: ClassVar[Any] = AutoModelForQuestionAnswering

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if not tokenizer.is_fast:
            raise ModelError(f"{task} needs a fast tokenizer, which knows where each token stands; this model has none")
        self._model = model
        self._tokenizer = tokenizer
        self._limits = limits
        self._cached_parameters = cache(_parse_parameters)
        frame = special_tokens.template_for(tokenizer, texts=2)
        self._encoder = Encoder(model, tokenizer, limits, frame)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer) if frame else None
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        # As in transformers, a tokenizer that pads on the left gets the context first, and all of the row may answer.
        self._pads_left = tokenizer.padding_side == "left"
        self._context_index = 0 if self._pads_left else 1
        takes = inspect.signature(model.forward).parameters
        told = "token_type_ids" in tokenizer.model_input_names or model.config.model_type in TOKEN_TYPE_MODELS
        self._has_token_types = told and "token_type_ids" in takes
        self._forward_options = {"use_cache": False} if "use_cache" in takes else {}

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """Each job's windows; JobError where the question leaves no room for them, or where there would be too many."""
        if not jobs:
            return []
        long = {place for place, job in enumerate(jobs) if self._is_long(job)}
        short = [self._text_pair(job) for place, job in enumerate(jobs) if place not in long]
        found = iter(
            self._tokenizer(*map(list, zip(*short, strict=True)), **WITHOUT_TRUNCATION).encodings if short else ()
        )
        passages = (
            self._tokenize_separately(job)
            if place in long
            else Passage(next(found), self._context_index, has_token_types=self._has_token_types)
            for place, job in enumerate(jobs)
        )
        return [self._make_rows(job, passage) for job, passage in zip(jobs, passages, strict=True)]

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[Floats]:
        """Logits for beginnings and ends, float32 `(2, tokens)` for each row."""
        with self._encoder.prepare_inputs(micro_batch) as tensors:
            output = self._model(**tensors, **self._forward_options)
        logits = torch.stack([output.start_logits, output.end_logits], dim=1).float().cpu().numpy()
        return [logits[place, :, : row.length] for place, row in enumerate(micro_batch.rows)]

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> Any:
        """`{"score", "start", "end", "answer"}`, or a list of them where `top_k` finds several.

        Raises JobError on scores that are no numbers.
        """
        if not all(np.isfinite(logits).all() for logits in raw_outputs):
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        asked = self._parameters_for(rows[0].job)
        # Spans that come to the same words are merged, so more are looked at than are given.
        count = asked.top_k * 2 + 10 if asked.align_to_words else asked.top_k
        found = [
            (row.features, best_spans(logits, self._answerable_mask(row.features), count, asked.max_answer_len))
            for row, logits in zip(rows, raw_outputs, strict=True)
        ]
        answers = _merge_answers(found, rows[0].job.input["context"], whole_words=asked.align_to_words)
        if asked.handle_impossible_answer:
            answers.append({"score": min(spans.null_score for _, spans in found), "start": 0, "end": 0, "answer": ""})
        answers = sorted(answers, key=lambda answer: answer["score"], reverse=True)[: asked.top_k]
        return answers[0] if len(answers) == 1 else answers

    def _text_pair(self, job: Job) -> tuple[str, str]:
        question, context = job.input["question"], job.input["context"]
        return (context, question) if self._pads_left else (question, context)

    def _is_long(self, job: Job) -> bool:
        return self._long_text_tokenizer is not None and sum(map(len, self._text_pair(job))) > PIECE_CHARACTERS

    def _tokenize_separately(self, job: Job) -> Passage:
        """A passage whose texts are tokenized each by itself, in pieces."""
        example = self._tokenizer(*EXAMPLE_PAIR, **WITHOUT_TRUNCATION).encodings[0]
        texts = (
            [self._long_text_tokenizer.tokenize(text) for text in self._text_pair(job)]
            if self._long_text_tokenizer
            else []
        )
        return Passage.from_texts(example, texts, self._context_index, has_token_types=self._has_token_types)

    def _make_rows(self, job: Job, passage: Passage) -> list[Row] | JobError:
        longest, shared = self._window_lengths(self._parameters_for(job))
        room = longest - passage.overhead_tokens
        if len(passage.ids) > longest:
            problem = self._length_error(job, passage, longest, shared)
            if problem is not None:
                return problem
        windows = passage.windows(room, shared, from_the_end=self._tokenizer.truncation_side == "left")
        try:
            return [
                self._encoder.make_row(job, window, part=part, parts=len(windows))
                for part, window in enumerate(windows)
            ]
        except JobError as error:
            return error

    def _length_error(self, job: Job, passage: Passage, window_tokens: int, overlap: int) -> JobError | None:
        if self._limits.truncation == "error":
            size = f"question and context are {len(passage.ids):,} tokens"
            return JobError(
                "input_too_long", f"{size}, longer than the {window_tokens:,} that this pipeline takes at once"
            )
        room = window_tokens - passage.overhead_tokens
        windows = (
            f"windows of {window_tokens:,} tokens have room for {max(room, 0):,} of the context beside this question"
        )
        if overlap < room:
            count = passage.window_count(room, overlap)
            many = f"{windows}, which makes {count:,} windows; at most {MAX_WINDOWS:,} are read"
            return JobError("too_many_windows", f"{many}: split the context") if count > MAX_WINDOWS else None
        if room < 1 or job.lease.parameters.get("doc_stride") is None:
            return JobError("question_too_long", f"{windows}, of which they share {overlap:,}; shorten the question")
        return JobError("doc_stride_too_large", f"{windows}; doc_stride is {overlap:,} and must be less")

    def _window_lengths(self, parameters: QuestionAnsweringParameters) -> tuple[int, int]:
        """How long a window is and how much of it is shared with the one before."""
        longest = min(
            parameters.max_seq_len or DEFAULT_WINDOW_TOKENS,
            self._limits.max_length or parameters.max_seq_len or DEFAULT_WINDOW_TOKENS,
        )
        if parameters.doc_stride is not None:
            return longest, parameters.doc_stride
        return longest, min(
            longest // 2, DEFAULT_OVERLAP_TOKENS
        ) if self._limits.stride is None else self._limits.stride

    def _answerable_mask(self, window: Window) -> Any:
        ids = np.array(window["input_ids"])
        # The first token stands for "no answer" with many models; wherever it is written out it may answer too.
        allowed = ids == self._tokenizer.cls_token_id
        allowed[slice(None) if self._pads_left else window.context_slice] = True
        return allowed

    def _parameters_for(self, job: Job) -> QuestionAnsweringParameters:
        return self._cached_parameters(tuple(sorted(job.lease.parameters.items())))


def _parse_parameters(items: tuple[tuple[str, Hashable], ...]) -> QuestionAnsweringParameters:
    return QuestionAnsweringParameters(**dict(items))  # type: ignore[arg-type]  # checked when they were submitted


def _merge_answers(
    window_spans: Iterable[tuple[Window, AnswerSpans]], context: str, *, whole_words: bool
) -> list[dict[str, Any]]:
    """The windows' spans as answers; the same words in other places or letter cases count for the first of them."""
    answers: dict[str, dict[str, Any]] = {}
    for window, spans in window_spans:
        starts, ends = window.character_spans(spans.starts, spans.ends, whole_words=whole_words)
        for start, end, score in zip(starts.tolist(), ends.tolist(), spans.scores.tolist(), strict=True):
            text = context[start:end]
            answer = answers.setdefault(text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text})
            answer["score"] += score
    return list(answers.values())
