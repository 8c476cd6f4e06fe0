"""Outcomes: jobs decoded together have the results of jobs decoded alone, and no fault reaches a neighbour."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from models import vectors
from models.documents import to_json
from models.errors import JobError
from models.states import JobOutcome
from tests.fakes import UNUSUAL_OUTPUTS, BulkFakeAdapter, FakeAdapter
from worker.adapters.interface import DecodableJob
from worker.adapters.rows import GeneratedTexts, Row
from worker.engine.assembly import PartAssembler
from worker.engine.outcomes import results_for
from worker.leasing.job_results import JobResult, RetryableFailure
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 9, 1, 1)
TEXTS = ["one", "two words", "NaN", "three more words", "NUL", "half a pair", "spelled", "infinite"]


def raise_at_once(_documents: list[str | Exception]) -> list[str | Exception]:
    raise RuntimeError("this text is a secret")


def raise_in_the_middle(documents: list[str | Exception]) -> Iterator[str | Exception]:
    yield from documents[:3]
    raise RuntimeError("this text is a secret")


def return_the_wrong_type(_documents: list[str | Exception]) -> Any:
    return None


def generated(tokens: int, *, has_ended: bool, is_out_of_time: bool = False) -> GeneratedTexts:
    return GeneratedTexts([[1] * tokens], tokens, has_ended=has_ended, is_out_of_time=is_out_of_time)


def token_counts(result: JobResult | RetryableFailure) -> tuple[int | None, int | None, str | None]:
    assert isinstance(result, JobResult)
    return result.input_tokens, result.output_tokens, result.finish_reason


class GeneratingFakeAdapter(FakeAdapter):
    """Gives one text for each job."""

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        return [{"generated_text": "yes"}]


class FailingFakeAdapter(FakeAdapter):
    """Gives no text."""

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        raise JobError("schema_unmet", "the text ended before it met its output_schema")


def raw_rows(texts: Sequence[str]) -> list[tuple[Row, Any]]:
    jobs = [Job(LEASE, position, {"text": text}) for position, text in enumerate(texts)]
    return [(Row(job, job.input["text"], 2, truncated=False), 2) for job in jobs]


def results(adapter: FakeAdapter, rows: Sequence[tuple[Row, Any]]) -> list[JobResult | RetryableFailure]:
    adapter_in_engine: Any = adapter
    return list(results_for(adapter_in_engine, PartAssembler().add(rows, 2, 0.5), 3))


@pytest.mark.parametrize(
    "decode_jobs",
    [
        list,
        iter,
        raise_at_once,
        raise_in_the_middle,
        return_the_wrong_type,
        lambda documents: documents[:-1],
        lambda documents: iter(documents[:-1]),
        lambda documents: [*documents, "surplus"],
        lambda documents: [None, *documents[1:]],
    ],
)
def test_jobs_decoded_together_have_the_results_of_jobs_decoded_alone(decode_jobs: Any) -> None:
    adapter = BulkFakeAdapter(decode_jobs)

    together = results(adapter, raw_rows(TEXTS))

    assert together == results(FakeAdapter(), raw_rows(TEXTS))
    assert adapter.calls == [len(TEXTS)]
    assert [outcome.position for outcome in together] == list(range(len(TEXTS)))
    failed = {outcome.position for outcome in together if isinstance(outcome, JobResult) and outcome.error_code}
    assert failed == {TEXTS.index(text) for text in ("NaN", *UNUSUAL_OUTPUTS) if text != "spelled"}


def test_rows_without_an_output_are_not_decoded() -> None:
    [first, second, third] = raw_rows(["one", "two", "three"])
    rows = [first, (second[0], MemoryError()), (third[0], ConnectionError("this text is a secret"))]
    adapter = BulkFakeAdapter(list)

    first_result, second_result, third_result = results(adapter, rows)

    assert adapter.calls == [1]
    assert isinstance(first_result, JobResult)
    assert first_result.status is JobOutcome.SUCCEEDED
    assert isinstance(second_result, JobResult)
    assert second_result.error_code == "out_of_memory"
    assert third_result == RetryableFailure(LEASE, 2, "unavailable", third_result.error_message)  # type: ignore[arg-type]


def test_duplicates_share_the_output_and_the_first_carries_the_cost() -> None:
    job, duplicate = (Job(LEASE, position, {"text": "a b"}) for position in (0, 1))
    row = Row(job, "a b", 2, truncated=True, duplicates=(duplicate,))

    first, second = results(BulkFakeAdapter(list), [(row, 2)])

    assert isinstance(first, JobResult)
    assert isinstance(second, JobResult)
    assert (first.output, first.truncated) == (second.output, second.truncated)
    assert (first.position, first.tokens, first.padded_tokens, first.device_seconds) == (0, 2, 2, 0.5)
    assert (second.position, second.tokens, second.padded_tokens, second.device_seconds) == (1, 0, 0, 0.0)


def test_each_duplicate_has_the_tokens_of_its_input() -> None:
    job, duplicate = (Job(LEASE, position, {"text": "a b"}) for position in (0, 1))
    row = Row(job, "a b", 2, truncated=False, duplicates=(duplicate,))

    counts = [token_counts(result) for result in results(BulkFakeAdapter(list), [(row, 2)])]

    assert counts == [(2, None, None)] * 2


def test_windows_are_summed_and_an_input_that_no_model_read_has_no_tokens() -> None:
    long, unread = Job(LEASE, 0, {"text": "a b c"}), Job(LEASE, 1, {"text": "d"})
    parts = [(Row(long, "a b", 2, False, part_index=part, part_count=2, window_count=2), 1) for part in (0, 1)]
    rejected = Row(unread, None, 0, truncated=False, window_count=0)

    first, second = results(FakeAdapter(), [*parts, (rejected, JobError("empty_text", "it is empty"))])

    assert token_counts(first) == (4, None, None)
    assert token_counts(second) == (None, None, None)


def test_texts_drawn_for_one_prompt_are_summed_and_its_tokens_count_once() -> None:
    job = Job(LEASE, 0, {"text": "a b c"})
    drawn = [generated(5, has_ended=True), generated(4, has_ended=False)]
    rows = [(Row(job, "a b c", 3, False, part_index=part, part_count=2), texts) for part, texts in enumerate(drawn)]

    [result] = results(GeneratingFakeAdapter(), rows)
    [whole] = results(GeneratingFakeAdapter(), [(Row(job, "a b c", 3, False), drawn[0])])

    assert token_counts(result) == (3, 9, "length")
    assert token_counts(whole) == (3, 5, "stop")


def test_a_generated_text_that_fails_has_its_tokens() -> None:
    row = Row(Job(LEASE, 0, {"text": "NUL"}), "NUL", 3, truncated=False)

    [result] = results(FailingFakeAdapter(), [(row, generated(7, has_ended=False, is_out_of_time=True))])

    assert isinstance(result, JobResult)
    assert (result.status, result.truncated, token_counts(result)) == (JobOutcome.FAILED, True, (3, 7, "length"))


def test_a_transient_error_in_decoding_is_retried() -> None:
    adapter = BulkFakeAdapter(lambda documents: [ConnectionError("this text is a secret"), *documents[1:]])

    first, second = results(adapter, raw_rows(["one", "two"]))

    assert isinstance(first, RetryableFailure)
    assert "secret" not in first.error_message
    assert isinstance(second, JobResult)
    assert second.status is JobOutcome.SUCCEEDED


VECTOR = vectors.from_numbers([0.25, -1.0])


class VectorFakeAdapter(FakeAdapter):
    """Gives the vector that a text names."""

    named: ClassVar[dict[str, bytes]] = {
        "vector": VECTOR,
        "NaN": vectors.from_numbers([0.25, math.nan]),
        "empty": b"",
        "longest": bytes(4 * vectors.MAX_DIMENSIONS),
        "too long": bytes(4 * (vectors.MAX_DIMENSIONS + 1)),
    }

    def decode(self, rows: Sequence[Row], raw: Sequence[Any]) -> Any:
        return self.named.get(rows[0].features, "no vector")


class VectorsFakeAdapter(VectorFakeAdapter):
    """The same for several jobs together."""

    def decode_many(self, jobs: Sequence[DecodableJob]) -> list[str | bytes]:
        outputs = [self.decode(rows, raw) for rows, raw in jobs]
        return [output if isinstance(output, bytes) else to_json(output) for output in outputs]


@pytest.mark.parametrize("adapter", [VectorFakeAdapter(), VectorsFakeAdapter()], ids=["alone", "together"])
def test_a_vector_is_a_result_unless_no_database_stores_it(adapter: FakeAdapter) -> None:
    outcomes = results(adapter, raw_rows(["vector", "empty", "other", "too long", "longest"]))

    assert [(outcome.output, outcome.vector, outcome.error_code) for outcome in map(as_result, outcomes)] == [
        (None, VECTOR, None),
        (None, None, "invalid_output"),
        ('"no vector"', None, None),
        (None, None, "output_too_large"),
        (None, VectorFakeAdapter.named["longest"], None),
    ]
    assert "16,001 numbers; a database stores 16,000; set dimensions" in as_result(outcomes[3]).error_message


def test_a_vector_decoded_alone_has_finite_numbers() -> None:
    [outcome] = results(VectorFakeAdapter(), raw_rows(["NaN"]))

    assert (as_result(outcome).error_code, as_result(outcome).vector) == ("invalid_output", None)


def as_result(outcome: JobResult | RetryableFailure) -> JobResult:
    assert isinstance(outcome, JobResult)
    return outcome
