"""Input guards pass jobs on with the size of their redacted inputs, and reject what redaction makes unfit."""

import pytest

from models.documents import to_json
from models.errors import JobError
from models.guards.definition import Guard
from models.tasks.fields import MAX_TEXT_CHARACTERS
from tests.factories.guards import make_screener
from worker.engine.preparing.input_guards import InputGuards, ScreenedJobs
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 10, 1, 1)


def screen(document: object, replacement: str) -> ScreenedJobs:
    guard = Guard(on="input", action="redact", pattern=r"key-\d", replacement=replacement)
    guards = InputGuards(make_screener({"secrets": guard}), 1_000, lambda _: True)
    job = Job(LEASE, 0, document, len(to_json(document)))  # type: ignore[arg-type]
    [screened] = guards.screen([(job, ())])
    return screened


@pytest.mark.parametrize("replacement", ["", "[é]", "[a long replacement]"])
def test_a_redacted_job_has_the_size_of_what_is_left(replacement: str) -> None:
    screened = screen({"text": "some key-1 and key-2"}, replacement)

    [(job, _)] = screened.passed
    assert job.input == {"text": f"some {replacement} and {replacement}"}
    assert job.size_bytes == len(to_json(job.input).encode())


def test_a_job_that_is_not_redacted_keeps_its_size() -> None:
    [(job, _)] = screen({"text": "some"}, "[x]").passed

    assert job.size_bytes == len(to_json({"text": "some"}))


@pytest.mark.parametrize(
    "document",
    [{"text": "key-1"}, {"text": " key-1key-2\n"}, {"question": "who?", "context": "key-1"}, {"rows": ["key-1", "a"]}],
)
def test_a_job_whose_text_is_redacted_to_nothing_is_rejected(document: object) -> None:
    screened = screen(document, "")

    assert screened.passed == []
    [(row, error)] = screened.rejected
    assert isinstance(error, JobError)
    assert error.code == "empty_text"
    assert row.job.screening is not None
    assert row.job.screening.redacted == row.job.input != document


def test_a_text_that_was_blank_before_is_no_reason() -> None:
    assert len(screen({"question": "what is key-1?", "context": " "}, "").passed) == 1


def test_a_text_that_replacements_make_too_long_is_rejected() -> None:
    most, text = MAX_TEXT_CHARACTERS, "key-1" * (MAX_TEXT_CHARACTERS // 10)

    [(_, error)] = screen({"text": "x" * (most - 5) + " key-1"}, "[REDACTED]").rejected

    assert isinstance(error, JobError)
    assert error.code == "text_too_long"
    assert len(screen({"text": text}, "[REDACTED]").passed) == 1, "places that touch become one"
