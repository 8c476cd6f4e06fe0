"""The answers of a job, from the spans of its windows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from models.tasks.question_answering import QuestionAnsweringParameters
from worker.adapters.tasks.qa_spans import Booleans, Floats, Integers, best_spans_of_windows
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


def answers_of_windows(
    windows: Sequence[Window], logits: Floats, answerable: Booleans, parameters: QuestionAnsweringParameters
) -> Iterator[WindowAnswers]:
    """Yield the answers of each of these windows, which have equally many tokens.

    logits: `(windows, 2, tokens)`.
    answerable: `(windows, tokens)`.
    """
    products = logits.shape[2] * min(parameters.max_answer_len, logits.shape[2])
    step = max(1, MAX_PRODUCTS // products)
    for begin in range(0, len(windows), step):
        part = slice(begin, begin + step)
        yield from _answers_of_few_windows(windows[part], logits[part], answerable[part], parameters)


def _answers_of_few_windows(
    windows: Sequence[Window], logits: Floats, answerable: Booleans, parameters: QuestionAnsweringParameters
) -> Iterator[WindowAnswers]:
    table = best_spans_of_windows(logits, answerable, span_count(parameters), parameters.max_answer_len)
    counts: Integers = np.count_nonzero(table.valid, axis=1)
    spans = character_spans_of_windows(
        windows, counts, table.starts[table.valid], table.ends[table.valid], whole_words=parameters.align_to_words
    )
    characters, scores = np.stack(spans, axis=1, dtype=np.int64), table.scores[table.valid]
    ends = counts.cumsum().tolist()
    for begin, end, null_score in zip([0, *ends[:-1]], ends, table.null_scores.tolist(), strict=True):
        yield WindowAnswers(characters[begin:end], scores[begin:end], null_score)


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
