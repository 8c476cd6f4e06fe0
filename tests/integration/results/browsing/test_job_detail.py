"""One job with all that is known about it."""

import pytest

from models import vectors
from models.db import Database
from models.errors import NotFound
from models.states import BatchStatus, JobOutcome
from producer.batches.actions import retry as retrying
from producer.batches.actions.retry import RetrySelection
from producer.results.browsing import job_detail
from producer.results.browsing.job_detail import Neighbours
from tests.factories.batch_rows import execute, insert_batch
from tests.fake_worker import end_batch, write_results


def test_a_job_with_a_result(database: Database) -> None:
    batch_id = insert_batch(database, 6)
    write_results(database, batch_id, [(0, "bad"), (1, {"label": "A", "score": 1.0}), (4, "worse")])

    job = job_detail.get_job(database, batch_id, 1)

    assert job.result is not None
    assert job.result.output is not None
    assert job.result.status is JobOutcome.SUCCEEDED
    assert job.version is not None
    assert job.version["dtype"] == "float32"
    assert job.neighbours == Neighbours(0, 2, 0, 4)
    assert job.waiting is None


def test_a_job_without_a_result_says_which_slice_holds_it(database: Database) -> None:
    batch_id = insert_batch(database, 6)

    job = job_detail.get_job(database, batch_id, 5)

    assert (job.result, job.version) == (None, None)
    assert job.waiting is not None
    assert job.waiting.state == "queued"
    assert job.neighbours == Neighbours(4, None, None, None)


def test_a_replay_keeps_the_result_before(database: Database) -> None:
    batch_id = insert_batch(database, 3)
    write_results(database, batch_id, [(place, "bad") for place in range(3)])
    end_batch(database, batch_id, BatchStatus.COMPLETED)
    retrying.retry_jobs(database, batch_id, RetrySelection(), 4)
    write_results(database, batch_id, [(1, {"label": "A", "score": 1.0})])

    job = job_detail.get_job(database, batch_id, 1)

    assert job.result is not None
    assert job.result.status is JobOutcome.SUCCEEDED
    assert [old.error_code for old in job.superseded] == ["bad"]


def test_a_generated_text_says_how_it_ended(database: Database) -> None:
    batch_id = insert_batch(database, 2)
    write_results(database, batch_id, [(place, [{"generated_text": "yes"}]) for place in range(2)])
    tokens = "UPDATE results SET input_tokens = 7, output_tokens = 3, finish_reason = 'length' WHERE position = 1"
    execute(database, tokens)

    older, job = (job_detail.get_job(database, batch_id, place).result for place in range(2))

    assert job is not None
    assert (job.input_tokens, job.output_tokens, job.finish_reason) == (7, 3, "length")
    assert older is not None
    assert (older.input_tokens, older.output_tokens, older.finish_reason) == (None, None, None)


def test_a_vector_is_read_whole(database: Database) -> None:
    batch_id = insert_batch(database, 1)
    write_results(database, batch_id, [(0, vectors.from_numbers([0.5, -1.0]))])

    job = job_detail.get_job(database, batch_id, 0)

    assert job.result is not None
    assert job.result.vector == vectors.from_numbers([0.5, -1.0])
    assert job_detail.read_document(database, batch_id, 0, "output") == "[0.5,-1]"


def test_a_long_document_is_cut_and_can_be_had_whole(database: Database) -> None:
    batch_id = insert_batch(database, [{"text": "x" * 200_000}])

    job = job_detail.get_job(database, batch_id, 0)

    assert job.input.is_cut
    assert len(job.input.text) == job_detail.SHOWN_CHARACTERS
    assert len(job_detail.read_document(database, batch_id, 0, "input")) == job.input.length


def test_what_does_not_exist_is_not_found(database: Database) -> None:
    batch_id = insert_batch(database, 1)

    for name in ("output", "original_input", "guards"):
        with pytest.raises(NotFound):
            job_detail.read_document(database, batch_id, 0, name)
    with pytest.raises(NotFound):
        job_detail.get_job(database, batch_id, 1)
    with pytest.raises(NotFound):
        job_detail.get_job(database, "batch_none", 0)
