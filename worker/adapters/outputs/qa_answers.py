"""The answers of a job, from the spans of its windows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from models.tasks.question_answering import QuestionAnsweringParameters
from worker.adapters.outputs.qa_spans import Booleans, Floats, Integers, SpanTable, best_spans_of_windows
from worker.adapters.tokenization.qa_windows import Window, character_spans_of_windows

# Of the products of starts and ends that are in memory at once: 1 MiB, which also stays in the processor's cache.
MAX_PRODUCTS = 2**18


@dataclass(frozen=True, slots=True)
class WindowAnswers:
    """The possible answers of one window, best first.

    spans: `(answers, 2)`, the first character and the end of each, in the context.
    null_score: the probability of no answer.
    """

    spans: Integers
    scores: Floats
    null_score: float


def span_count(parameters: QuestionAnsweringParameters) -> int:
    """How many spans to take from each window."""
    # Spans of the same words are merged, so there must be more spans than answers.
    return parameters.top_k * 2 + 10 if parameters.align_to_words else parameters.top_k


@dataclass(frozen=True, slots=True)
class EqualWindows:
    """Windows of equally many tokens.

    logits: `(windows, 2, tokens)`, for starts and ends.
    answerable: `(windows, tokens)`, the tokens that may be part of an answer.
    """

    windows: Sequence[Window]
    logits: Floats
    answerable: Booleans


def answers_of_windows(
    groups: Sequence[EqualWindows], parameters: QuestionAnsweringParameters
) -> Iterator[WindowAnswers]:
    """Yield the answers of each window of each group."""
    windows = [window for group in groups for window in group.windows]
    tables = [table for group in groups for table in _span_tables(group, parameters)]
    if not tables:
        return
    counts: Integers = np.concatenate([np.count_nonzero(table.valid, axis=1) for table in tables])
    spans = character_spans_of_windows(
        windows,
        counts,
        np.concatenate([table.starts[table.valid] for table in tables]),
        np.concatenate([table.ends[table.valid] for table in tables]),
        whole_words=parameters.align_to_words,
    )
    characters = np.stack(spans, axis=1, dtype=np.int64)
    scores = np.concatenate([table.scores[table.valid] for table in tables])
    null_scores = [score for table in tables for score in table.null_scores.tolist()]
    ends = counts.cumsum().tolist()
    for begin, end, null_score in zip([0, *ends[:-1]], ends, null_scores, strict=True):
        yield WindowAnswers(characters[begin:end], scores[begin:end], null_score)


def _span_tables(group: EqualWindows, parameters: QuestionAnsweringParameters) -> Iterator[SpanTable]:
    """Yield the spans of a few windows at a time."""
    tokens = group.logits.shape[2]
    step = max(1, MAX_PRODUCTS // (tokens * min(parameters.max_answer_len, tokens)))
    for begin in range(0, len(group.windows), step):
        part = slice(begin, begin + step)
        yield best_spans_of_windows(
            group.logits[part], group.answerable[part], span_count(parameters), parameters.max_answer_len
        )


def answers_of_job(
    window_answers: Iterable[WindowAnswers], context: str, parameters: QuestionAnsweringParameters
) -> Any:
    """The best answers of all windows of a job, as transformers returns them."""
    window_answers = list(window_answers)
    answers = _merge_answers(window_answers, context)
    if parameters.handle_impossible_answer:
        null_score = min(window.null_score for window in window_answers)
        answers.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
    answers = sorted(answers, key=itemgetter("score"), reverse=True)[: parameters.top_k]
    return answers[0] if len(answers) == 1 else answers


def _merge_answers(window_answers: Iterable[WindowAnswers], context: str) -> list[dict[str, Any]]:
    """The windows' spans as answers; the same words elsewhere, or in another case, add to the first one's score."""
    answers: dict[str, dict[str, Any]] = {}
    for window in window_answers:
        for (start, end), score in zip(window.spans.tolist(), window.scores.tolist(), strict=True):
            text = context[start:end]
            key = text.lower()
            if key in answers:
                answers[key]["score"] += score
            else:
                answers[key] = {"score": score, "start": start, "end": end, "answer": text}
    return list(answers.values())
