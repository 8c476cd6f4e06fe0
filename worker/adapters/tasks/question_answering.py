"""The adapter for question-answering, which finds the spans of a context that answer a question.

transformers 5 no longer has this pipeline. The adapter gives the answers of 4.57.6, which are stored in tests/golden.
"""

import inspect
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import compress, islice
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering

from models.documents import to_json
from models.errors import JobError, ModelError
from models.tasks.question_answering import QuestionAnsweringParameters
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.outputs.job_groups import are_finite, decode_in_groups
from worker.adapters.outputs.qa_answers import (
    EqualWindows,
    WindowAnswers,
    answers_of_job,
    answers_of_windows,
    span_count,
)
from worker.adapters.outputs.qa_spans import Booleans, Floats, best_spans
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.adapters.tokenization.qa_windows import Passage, Window
from worker.leasing.chunking import split_into_chunks
from worker.leasing.leases import Job

# The pipeline's own defaults, in tokens.
DEFAULT_WINDOW_TOKENS, DEFAULT_OVERLAP_TOKENS = 384, 128

# A million characters make about 4,000 windows of 384 tokens that share 128.
MAX_WINDOWS = 5_000

# Windows are decoded together up to so many bytes of logits, of which there are a few copies, and of spans.
MAX_CHUNK_BYTES = 8 * 2**20
SPAN_BYTES = 32

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
        self._batch_tokenizer = BatchTokenizer(tokenizer)
        self._cached_parameters = cache(_parse_parameters)
        template = special_tokens.template_for(tokenizer, texts=2)
        self._encoder = Encoder(model, tokenizer, limits, template)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer) if template else None
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight
        # As in transformers, a tokenizer that pads on the left gets the context first, and any token may answer.
        self._pads_left = tokenizer.padding_side == "left"
        self._cls_token_id = -1 if tokenizer.cls_token_id is None else tokenizer.cls_token_id
        self._context_index = 0 if self._pads_left else 1
        self._cuts_left = tokenizer.truncation_side == "left"
        model_inputs = inspect.signature(model.forward).parameters
        uses_types = "token_type_ids" in tokenizer.model_input_names or model.config.model_type in TOKEN_TYPE_MODELS
        self._has_token_types = uses_types and "token_type_ids" in model_inputs
        self._forward_options = {"use_cache": False} if "use_cache" in model_inputs else {}

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """The windows of each job; a JobError if the question leaves no room for them, or there are too many."""
        short = [self._text_pair(job) for job in jobs if not self._is_long(job)]
        encodings = iter(self._batch_tokenizer.tokenize_with_positions(*zip(*short, strict=True)) if short else ())
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

        def split(logits: Floats) -> list[Floats]:
            return [logits[index, :, : row.length] for index, row in enumerate(micro_batch.rows)]

        return self._encoder.launch(micro_batch, compute, split)

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> Any:
        """`{"score", "start", "end", "answer"}`, or a list of them if `top_k` allows several.

        Raises JobError if scores are not finite.
        """
        if not all(np.isfinite(logits).all() for logits in raw_outputs):
            raise non_finite_scores()
        parameters = self._parameters_for(rows[0].job)
        windows = [
            self._answers_of_window(row.features, logits, parameters)
            for row, logits in zip(rows, raw_outputs, strict=True)
        ]
        return answers_of_job(windows, rows[0].job.input["context"], parameters)

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """The JSON of what `decode` returns, for jobs of any parameters and any number of windows."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(self, _parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        parameters = self._parameters_for(jobs[0][0][0].job)
        windows = (
            (row.features, logits) for rows, raw_outputs in jobs for row, logits in zip(rows, raw_outputs, strict=True)
        )
        answers = self._answers_of_windows(windows, parameters)
        for rows, _ in jobs:
            yield _job_json(rows[0].job, list(islice(answers, len(rows))), parameters)

    def _answers_of_windows(
        self, windows: Iterable[tuple[Window, Floats]], parameters: QuestionAnsweringParameters
    ) -> Iterator[WindowAnswers | None]:
        """The answers of each window, None for scores that are not finite. One chunk is in memory at a time."""
        span_bytes = SPAN_BYTES * span_count(parameters)
        for chunk in split_into_chunks(windows, lambda window: window[1].nbytes + span_bytes, MAX_CHUNK_BYTES):
            yield from self._answers_of_chunk(chunk, parameters)

    def _answers_of_chunk(
        self, windows: Sequence[tuple[Window, Floats]], parameters: QuestionAnsweringParameters
    ) -> list[WindowAnswers | None]:
        """As `_answers_of_windows`, found together.

        Windows of equal length are taken together. Padded to one length, sums would round differently.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        for place, (_, logits) in enumerate(windows):
            by_length[logits.shape[1]].append(place)
        groups: list[EqualWindows] = []
        finite_places: list[int] = []
        for places in by_length.values():
            all_logits = np.stack([windows[place][1] for place in places])
            finite = are_finite(all_logits)
            finite_places += compress(places, finite)
            equal = [windows[place][0] for place in compress(places, finite)]
            if equal:
                groups.append(EqualWindows(equal, all_logits[finite], self._answerable_masks(equal)))
        answers: list[WindowAnswers | None] = [None] * len(windows)
        for place, window_answers in zip(finite_places, answers_of_windows(groups, parameters), strict=True):
            answers[place] = window_answers
        return answers

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
        windows = passage.windows(room, overlap, from_the_end=self._cuts_left)
        return [
            self._encoder.make_row(job, window, part_index=part, part_count=len(windows), window_count=len(windows))
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

    def _answers_of_window(
        self, window: Window, logits: Floats, parameters: QuestionAnsweringParameters
    ) -> WindowAnswers:
        """As `_answers_of_windows` finds them, for one window by itself."""
        [answerable] = self._answerable_masks([window])
        spans = best_spans(logits, answerable, span_count(parameters), parameters.max_answer_len)
        characters = window.character_spans(spans.starts, spans.ends, whole_words=parameters.align_to_words)
        return WindowAnswers(np.stack(characters, axis=1), spans.scores, spans.null_score)

    def _answerable_masks(self, windows: Sequence[Window]) -> Booleans:
        """The tokens that may be part of an answer, for windows of equally many tokens."""
        ids = np.stack([np.asarray(window["input_ids"]) for window in windows])
        # Many models' first token stands for "no answer"; it may answer wherever it occurs.
        answerable = ids == self._cls_token_id
        if self._pads_left:
            answerable[:] = True
            return answerable
        for line, window in zip(answerable, windows, strict=True):
            line[window.context_slice] = True
        return answerable

    def _parameters_for(self, job: Job) -> QuestionAnsweringParameters:
        return self._cached_parameters(tuple(sorted(job.lease.parameters.items())))


def _job_json(
    job: Job, window_answers: list[WindowAnswers | None], parameters: QuestionAnsweringParameters
) -> str | Exception:
    found = [answers for answers in window_answers if answers is not None]
    if len(found) < len(window_answers):
        return non_finite_scores()
    return to_json(answers_of_job(found, job.input["context"], parameters))


def _parse_parameters(items: tuple[tuple[str, Hashable], ...]) -> QuestionAnsweringParameters:
    return QuestionAnsweringParameters(**dict(items))  # type: ignore[arg-type]  # validated at submission
