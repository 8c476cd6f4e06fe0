"""What happened to a batch's claims, and to single jobs."""

import json

import pytest
from click.testing import CliRunner, Result

import batchmill
from models.db import Database
from models.errors import NotFound
from producer.results import attempts
from tests.factories import consistent_batch
from tests.factories.consistent_batch import BATCH_ID, execute_all

ERROR = "UPDATE attempts SET error_code = 'worker_crashed', error_message = 'it died' WHERE outcome = 'crashed'"


@pytest.fixture
def database(database: Database) -> Database:
    consistent_batch.insert_batch_in_progress(database)
    execute_all(database, ERROR)
    return database


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["attempts", *arguments])


def summarize(views: list[attempts.AttemptView]) -> list[tuple[str, int, int, str]]:
    return [(view.kind, view.start_position, view.end_position, view.outcome) for view in views]


class TestOfBatch:
    def test_claims_that_just_succeeded_are_left_out(self, database: Database) -> None:
        assert summarize(attempts.list_attempts(database, BATCH_ID, 100)) == [
            ("attempt", 0, 4, "released"),
            ("attempt", 4, 8, "lease_expired"),
            ("attempt", 7, 8, "crashed"),
        ]

    def test_the_last_ones_count(self, database: Database) -> None:
        assert summarize(attempts.list_attempts(database, BATCH_ID, 2)) == [
            ("attempt", 4, 8, "lease_expired"),
            ("attempt", 7, 8, "crashed"),
        ]

    def test_there_must_be_a_batch(self, database: Database) -> None:
        with pytest.raises(NotFound, match="batchmill ls"):
            attempts.list_attempts(database, "batch_nope", 1)


class TestOfJob:
    def test_its_claims_then_its_result(self, database: Database) -> None:
        views = attempts.job_history(database, BATCH_ID, 7)

        assert sorted(summarize(views)) == [
            ("attempt", 7, 8, "crashed"),
            ("attempt", 7, 8, "lease_expired"),
            ("result", 7, 8, "failed"),
        ]
        assert {view.error_code for view in views if view.outcome == "crashed"} == {"worker_crashed"}

    def test_results_that_were_taken_back_come_first(self, database: Database) -> None:
        execute_all(database, "UPDATE attempts SET ended_at = '2026-02-02 00:00:00'")

        views = attempts.job_history(database, BATCH_ID, 0)

        assert summarize(views)[0] == ("superseded_result", 0, 1, "failed")
        assert summarize(views)[-1] == ("result", 0, 1, "succeeded")
        assert [view.ended_at for view in views] == sorted(view.ended_at for view in views)

    def test_an_open_one_has_no_result(self, database: Database) -> None:
        assert summarize(attempts.job_history(database, BATCH_ID, 5)) == [("attempt", 5, 6, "lease_expired")]
        assert attempts.job_history(database, BATCH_ID, 9) == []

    def test_there_must_be_a_job(self, database: Database) -> None:
        with pytest.raises(NotFound, match="no job with the position '12'"):
            attempts.job_history(database, BATCH_ID, 12)
        with pytest.raises(NotFound, match="no job with the custom_id 'nope'"):
            attempts.find_position(database, BATCH_ID, "nope")


class TestCommand:
    def test_a_table(self, database: Database) -> None:
        lines = invoke(BATCH_ID).stdout.splitlines()

        assert lines[0].split() == ["POSITIONS", "ATTEMPT", "OUTCOME", "CLAIMED", "ENDED", "WORKER", "ERROR"]
        assert [line.split()[:3] for line in lines[1:]] == [
            ["0-3", "1", "released"],
            ["4-7", "1", "lease_expired"],
            ["7", "2", "crashed"],
        ]
        assert lines[3].endswith("worker_crashed: it died")

    def test_of_one_job_by_either_name(self, database: Database) -> None:
        by_position, by_id = invoke(BATCH_ID, "--position", "0"), invoke(BATCH_ID, "--id", "id 0")

        assert by_position.exit_code == by_id.exit_code == 0
        assert by_position.stdout == by_id.stdout
        assert "superseded: failed" in by_id.stdout
        assert "result: succeeded" in by_id.stdout

    def test_json(self, database: Database) -> None:
        [last] = json.loads(invoke(BATCH_ID, "--json", "-n", "1").stdout)["data"]

        assert last.pop("ended_at").endswith("Z")
        assert last == {
            "object": "attempt",
            "first_position": 7,
            "last_position": 7,
            "attempt": 2,
            "outcome": "crashed",
            "worker_id": None,
            "slice_id": 5,
            "fencing_token": 1,
            "error_code": "worker_crashed",
            "error_message": "it died",
            "claimed_at": None,
        }

    def test_nothing_to_tell(self, database: Database) -> None:
        assert "nothing has happened to it yet" in invoke(BATCH_ID, "--position", "9").stderr
        execute_all(database, "DELETE FROM attempts")
        assert "every attempt succeeded at once" in invoke(BATCH_ID).stderr

    def test_two_names_are_exit_2(self, database: Database) -> None:
        assert invoke(BATCH_ID, "--position", "1", "--id", "id 1").exit_code == 2

    def test_what_is_not_there_is_exit_4(self, database: Database) -> None:
        assert invoke("batch_nope").exit_code == 4
        assert invoke(BATCH_ID, "--id", "nope").exit_code == 4
