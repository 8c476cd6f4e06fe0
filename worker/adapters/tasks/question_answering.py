"""The adapter for question-answering, which finds the spans of a context that answer a question.

transformers 5 no longer has this pipeline. The adapter gives the answers of 4.57.6, which are stored in tests/golden.
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
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tasks.qa_spans import AnswerSpans, Floats, best_spans
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.adapters.tokenization.qa_windows import Passage, Window
from worker.leasing.leases import Job

# The pipeline's own defaults, in tokens.
DEFAULT_WINDOW_TOKENS, DEFAULT_OVERLAP_TOKENS = 384, 128

# A million characters make about 4,000 windows of 384 tokens that share 128.
MAX_WINDOWS = 5_000

# The tokenizer's options for a pair before it is cut into windows, and an arbitrary pair.
WITHOUT_TRUNCATION = {"truncation": False, "return_attention_mask": False}
EXAMPLE_PAIR = ("a", "b")

# Models that distinguish the two texts by `token_type_ids`, although their transformers 5 tokenizers omit them.
TOKEN_TYPE_MODELS = {"albert", "funnel", "nystromformer", "rembert", "roformer", "splinter", "xlnet"}


class QuestionAnswering:
    """Makes one row of each window of a context, and merges the windows' answers."""

    auto_model_class: ClassVar[Any] = AutoModelForQuestionAnswering

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if not tokenizer.is_fast:
            raise ModelError(f"{task} needs a fast tokenizer, which reports each token's position; this model has none")
        self._model = model
        self._tokenizer = tokenizer
        self._limits = limits
        self._cached_parameters = cache(_parse_parameters)
        template = special_tokens.template_for(tokenizer, texts=2)
        self._encoder = Encoder(model, tokenizer, limits, template)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer) if template else None
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight
        # As in transformers, a tokenizer that pads on the left gets the context first, and any token may answer.
        self._pads_left = tokenizer.padding_side == "left"
        self._context_index = 0 if self._pads_left else 1
        model_inputs = inspect.signature(model.forward).parameters
        uses_types = "token_type_ids" in tokenizer.model_input_names or model.config.model_type in TOKEN_TYPE_MODELS
        self._has_token_types = uses_types and "token_type_ids" in model_inputs
        self._forward_options = {"use_cache": False} if "use_cache" in model_inputs else {}

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """The windows of each job; a JobError if the question leaves no room for them, or there are too many."""
        short = [self._text_pair(job) for job in jobs if not self._is_long(job)]
        encodings = iter(
            self._tokenizer(*map(list, zip(*short, strict=True)), **WITHOUT_TRUNCATION).encodings if short else ()
        )
        passages = (
            self._tokenize_separately(job)
            if self._is_long(job)
            else Passage(next(encodings), self._context_index, has_token_types=self._has_token_types)
            for job in jobs
        )
        return self._encoder.reject_unknown_tokens(
            [rows_or_error(self._make_rows, job, passage) for job, passage in zip(jobs, passages, strict=True)]
        )

    def forward(self, micro_batch: MicroBatch) -> list[Floats]:
        """Logits for starts and ends, float32 `(2, tokens)` for each row."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            output = self._model(**tensors, **self._forward_options)
            return [torch.stack([output.start_logits, output.end_logits], dim=1).float()]

        def split(logits: torch.Tensor) -> list[Floats]:
            array = logits.numpy()
            return [array[index, :, : row.length] for index, row in enumerate(micro_batch.rows)]

        return self._encoder.launch(micro_batch, compute, split)

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> Any:
        """`{"score", "start", "end", "answer"}`, or a list of them if `top_k` allows several.

        Raises JobError if scores are not finite.
        """
        if not all(np.isfinite(logits).all() for logits in raw_outputs):
            raise non_finite_scores()
        parameters = self._parameters_for(rows[0].job)
        # Spans of the same words are merged, so there must be more spans than answers.
        count = parameters.top_k * 2 + 10 if parameters.align_to_words else parameters.top_k
        window_spans = [
            (row.features, best_spans(logits, self._answerable_mask(row.features), count, parameters.max_answer_len))
            for row, logits in zip(rows, raw_outputs, strict=True)
        ]
        answers = _merge_answers(window_spans, rows[0].job.input["context"], whole_words=parameters.align_to_words)
        if parameters.handle_impossible_answer:
            null_score = min(spans.null_score for _, spans in window_spans)
            answers.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
        answers = sorted(answers, key=lambda answer: answer["score"], reverse=True)[: parameters.top_k]
        return answers[0] if len(answers) == 1 else answers

    def _text_pair(self, job: Job) -> tuple[str, str]:
        question, context = job.input["question"], job.input["context"]
        return (context, question) if self._pads_left else (question, context)

    def _is_long(self, job: Job) -> bool:
        return self._long_text_tokenizer is not None and sum(map(len, self._text_pair(job))) > PIECE_CHARACTERS

    def _tokenize_separately(self, job: Job) -> Passage:
        example = self._tokenizer(*EXAMPLE_PAIR, **WITHOUT_TRUNCATION).encodings[0]
        texts = (
            [self._long_text_tokenizer.tokenize(text) for text in self._text_pair(job)]
            if self._long_text_tokenizer
            else []
        )
        return Passage.from_texts(example, texts, self._context_index, has_token_types=self._has_token_types)

    def _make_rows(self, job: Job, passage: Passage) -> list[Row]:
        window_tokens, overlap = self._window_lengths(self._parameters_for(job))
        if len(passage.ids) > window_tokens:
            self._check_windows(job, passage, window_tokens, overlap)
        room = window_tokens - passage.overhead_tokens
        windows = passage.windows(room, overlap, from_the_end=self._tokenizer.truncation_side == "left")
        return [
            self._encoder.make_row(job, window, part_index=part, part_count=len(windows))
            for part, window in enumerate(windows)
        ]

    def _check_windows(self, job: Job, passage: Passage, window_tokens: int, overlap: int) -> None:
        """Raise JobError unless a passage that is longer than a window can be read in several."""
        if self._limits.truncation == "error":
            size = f"question and context have {len(passage.ids):,} tokens"
            raise input_too_long(size, window_tokens, "shorten the context")
        room = window_tokens - passage.overhead_tokens
        windows = (
            f"windows of {window_tokens:,} tokens have room for {max(room, 0):,} of the context beside this question"
        )
        if overlap < room:
            count = passage.window_count(room, overlap)
            if count > MAX_WINDOWS:
                problem = f"{windows}, which makes {count:,} windows; at most {MAX_WINDOWS:,} are read"
                raise JobError("too_many_windows", f"{problem}: split the context")
            return
        if room < 1 or job.lease.parameters.get("doc_stride") is None:
            raise JobError("question_too_long", f"{windows}, of which they share {overlap:,}; shorten the question")
        raise JobError("doc_stride_too_large", f"{windows}; doc_stride is {overlap:,} and must be less")

    def _window_lengths(self, parameters: QuestionAnsweringParameters) -> tuple[int, int]:
        """The tokens of a window, and how many of them it shares with the one before."""
        window_tokens = parameters.max_seq_len or DEFAULT_WINDOW_TOKENS
        window_tokens = min(window_tokens, self._limits.max_length or window_tokens)
        overlaps = (parameters.doc_stride, self._limits.stride, min(window_tokens // 2, DEFAULT_OVERLAP_TOKENS))
        return window_tokens, next(overlap for overlap in overlaps if overlap is not None)

    def _answerable_mask(self, window: Window) -> Any:
        ids = np.array(window["input_ids"])
        # Many models' first token stands for "no answer"; it may answer wherever it occurs.
        answerable = ids == self._tokenizer.cls_token_id
        answerable[slice(None) if self._pads_left else window.context_slice] = True
        return answerable

    def _parameters_for(self, job: Job) -> QuestionAnsweringParameters:
        return self._cached_parameters(tuple(sorted(job.lease.parameters.items())))


def _parse_parameters(items: tuple[tuple[str, Hashable], ...]) -> QuestionAnsweringParameters:
    return QuestionAnsweringParameters(**dict(items))  # type: ignore[arg-type]  # validated at submission


def _merge_answers(
    window_spans: Iterable[tuple[Window, AnswerSpans]], context: str, *, whole_words: bool
) -> list[dict[str, Any]]:
    """The windows' spans as answers; the same words elsewhere, or in another case, add to the first one's score."""
    answers: dict[str, dict[str, Any]] = {}
    for window, spans in window_spans:
        starts, ends = window.character_spans(spans.starts, spans.ends, whole_words=whole_words)
        for start, end, score in zip(starts.tolist(), ends.tolist(), spans.scores.tolist(), strict=True):
            text = context[start:end]
            answer = answers.setdefault(text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text})
            answer["score"] += score
    return list(answers.values())
