"""Repairs on both databases: corrected rows take the places of failed jobs, or nothing changes."""

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, event

import batchmill
from batchmill import Client
from models.db import Database
from models.errors import InvalidRows, NothingToRetry, UsageError
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.states import JobOutcome
from producer.batches import views
from producer.batches.actions import retry
from producer.batches.actions.retry import RetryResult, RetrySelection
from producer.health import audit
from producer.readers import open_source
from producer.readers.column_mapping import ColumnMapping
from producer.results import attempts, pages
from producer.results.files import escape_formula
from producer.submission import chunks, submit
from producer.submission.repairs import repair, repaired_jobs
from producer.submission.repairs.repair import _Repair
from producer.submission.repairs.repair_columns import RepairColumns
from producer.submission.request import SubmitRequest
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, execute, get_unanswered_jobs
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

PIPELINE = next(pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == "sentiment-analysis")
SLICE = 2
CLAIMANT = claimant_for(pipeline=PIPELINE.name, task=PIPELINE.task, model=PIPELINE.model, revision=PIPELINE.revision)
ROWS: list[Any] = [
    {"id": "R0", "text": "good", "region": "EU", "n": 1},
    {"id": "R1", "text": "", "region": "US", "n": 2},
    {"id": "R0", "text": "same id", "region": "EU", "n": 3},
    {"id": "R3", "text": "good", "region": "EU", "n": 4},
    {"id": "R4", "body": "misnamed", "region": "ASIA"},
    {"id": "R0", "text": "same id again", "region": "EU", "n": None},
]
BROKEN = "{broken"


@pytest.fixture
def batch_id(database: Database, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A completed batch with two succeeded jobs and five invalid rows, the last of which is not JSON."""
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + BROKEN)
    columns = ColumnMapping.for_task(PIPELINE.spec, passthrough=("region", "n"))
    request = SubmitRequest.create(PIPELINE, on_invalid="fail-row")
    with open_source(str(path), columns) as source:
        submission = submit.submit(database, SLICE, request, source)
    assert work_off(database) == [0, 3]
    return submission.batch_id


def work_off(database: Database, failing: tuple[int, ...] = (), code: str = "model_error") -> list[int]:
    """Answer all unanswered jobs; those at the positions `failing` fail. Returns the positions."""
    version_id, positions = versions.register_version(database, MODEL_VERSION), []
    while leases := claims.claim(database, CLAIMANT, 1000, SLICE):
        for lease in leases:
            results = [
                JobResult(lease, job.position, JobOutcome.FAILED, error_code=code, error_message="No.")
                if job.position in failing
                else JobResult(lease, job.position, JobOutcome.SUCCEEDED, "{}")
                for job in get_unanswered_jobs(database, [lease])
            ]
            with database.write() as connection:
                commit.commit_results(connection, BatchCommit([lease], results, {lease.slice_id}, version_id))
            positions += [result.position for result in results]
    return sorted(positions)


def repair_with(database: Database, batch_id: str, records: Iterable[object], tmp_path: Path) -> RetryResult:
    path = tmp_path / "repaired.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with open_source(str(path), RepairColumns.for_batch(database, batch_id, {}, None)) as source:
        return repair.repair_jobs(database, batch_id, source, SLICE)


def outcomes(database: Database, batch_id: str) -> dict[int, tuple[Any, ...]]:
    rows = pages.iter_by_position(database, batch_id)
    return {row.position: (row.status.value, row.custom_id, row.input, row.passthrough) for row in rows}


def invoke(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(batchmill.cli, list(arguments))
    assert result.exit_code == exit_code, result.output
    return result


def test_invalid_rows_keep_what_can_be_kept(database: Database, batch_id: str) -> None:
    assert outcomes(database, batch_id) == {
        0: ("succeeded", "R0", {"text": "good"}, {"region": "EU", "n": 1}),
        1: ("failed", "R1", {"text": ""}, {"region": "US", "n": 2}),
        2: ("failed", "R0", {"text": "same id"}, {"region": "EU", "n": 3}),
        3: ("succeeded", "R3", {"text": "good"}, {"region": "EU", "n": 4}),
        4: ("failed", "R4", {"row": ROWS[4]}, {"region": "ASIA", "n": None}),
        5: ("failed", "R0", {"text": "same id again"}, {"region": "EU", "n": None}),
        6: ("failed", None, {"row": BROKEN}, {"region": None, "n": None}),
    }
    assert audit.audit_batch(database, batch_id, 30).is_sound


def test_repaired_rows_run_in_the_places_of_the_failed_ones(database: Database, batch_id: str, tmp_path: Path) -> None:
    records = [
        {"position": 6, "id": "R6", "text": "whole again", "region": "AFRICA"},
        {"id": "R1", "text": "no longer empty"},
        {"position": 2, "id": "R2", "text": "same id", "n": "3"},
        {"position": "4.0", "input": {"text": "renamed"}, "passthrough": {"region": "ASIA", "n": 7}},
    ]

    result = repair_with(database, batch_id, records, tmp_path)

    view = views.get_batch(database, batch_id)
    assert (result.jobs, view.status, view.counts.failed, view.counts.unanswered) == (4, "in_progress", 1, 4)
    assert audit.audit_batch(database, batch_id, 30).is_sound
    assert work_off(database) == [1, 2, 4, 6]
    repaired = outcomes(database, batch_id)
    assert [repaired[position] for position in (1, 2, 4, 6)] == [
        ("succeeded", "R1", {"text": "no longer empty"}, {"region": "US", "n": 2}),
        ("succeeded", "R2", {"text": "same id"}, {"region": "EU", "n": 3}),
        ("succeeded", "R4", {"text": "renamed"}, {"region": "ASIA", "n": 7}),
        ("succeeded", "R6", {"text": "whole again"}, {"region": "AFRICA", "n": None}),
    ]
    history = attempts.job_history(database, batch_id, 1)
    assert (history[0].kind, history[0].error_code, history[-1].outcome) == (
        "superseded_result",
        "empty_text",
        "succeeded",
    )
    assert audit.audit_batch(database, batch_id, 30).is_sound


def test_in_chunks_comes_to_the_same(
    database: Database, batch_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repaired_jobs, "CHUNK_JOBS", 1)

    result = repair_with(
        database, batch_id, [{"position": place, "id": f"N{place}", "text": "x"} for place in (6, 1, 5, 2)], tmp_path
    )

    assert (result.jobs, views.get_batch(database, batch_id).counts.unanswered) == (4, 4)
    assert audit.audit_batch(database, batch_id, 30).is_sound


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"position": 1, "text": ""}, "text is empty"),
        ({"position": 0, "text": "x"}, "repairs no failed job: there is none at position 0"),
        ({"position": 99, "text": "x"}, "there is none at position 99"),
        ({"id": "R3", "text": "x"}, "there is none with the id 'R3'"),
        ({"id": "R0", "text": "x"}, "has the id of 2 failed jobs"),
        ({"position": 2, "text": "x"}, "has custom_id 'R0', which the job at position 0 has already"),
        ({"position": 6, "id": "R3", "text": "x"}, "which the job at position 3 has already"),
        ({"position": 1.5, "text": "x"}, "a position that is no number from 0"),
        ({"position": -1, "text": "x"}, "a position that is no number from 0"),
        ({"position": True, "text": "x"}, "a position that is no number from 0"),
        ({"position": "1e3", "text": "x"}, "a position that is no number from 0"),
        ({"text": "x"}, "names no job"),
        ("x", "names no job"),
        ({"position": 1, "text": "x", "region": {"a": "\0"}}, "NUL"),
    ],
)
def test_a_row_that_repairs_nothing_is_named_and_nothing_changes(
    database: Database, batch_id: str, tmp_path: Path, record: object, reason: str
) -> None:
    before = outcomes(database, batch_id)

    with pytest.raises(InvalidRows) as raised:
        repair_with(database, batch_id, [{"position": 4, "text": "fine"}, record], tmp_path)

    [problem] = raised.value.problems
    assert problem.startswith("line 2: ")
    assert reason in problem
    assert outcomes(database, batch_id) == before
    assert views.get_batch(database, batch_id).status == "completed"


def test_a_job_is_repaired_by_one_row_only(database: Database, batch_id: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRows, match="line 2: repairs the job at position 1 a second time"):
        repair_with(database, batch_id, [{"position": 1, "text": "a"}, {"id": "R1", "text": "b"}], tmp_path)


def test_two_rows_with_one_id_are_refused_wherever_they_stand(
    database: Database, batch_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 1)
    records = [{"position": 1, "id": "N", "text": "a"}, {"position": 4, "id": "N", "text": "b"}]

    with pytest.raises(InvalidRows, match="line 2: has custom_id 'N', which another row of it has already"):
        repair_with(database, batch_id, records, tmp_path)

    assert views.get_batch(database, batch_id).status == "completed"


def test_large_rows_are_replaced_a_few_at_a_time(
    database: Database, batch_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repaired_jobs, "CHUNK_BYTES", 1_000)
    sizes = []
    replace_chunk = _Repair.replace_chunk

    def record(*arguments: Any, jobs: list[Any], **named: Any) -> int:
        sizes.append(len(jobs))
        return replace_chunk(*arguments, jobs=jobs, **named)

    monkeypatch.setattr(_Repair, "replace_chunk", record)
    repair_with(database, batch_id, [{"position": place, "text": "x" * 600} for place in (1, 4, 6)], tmp_path)

    assert sizes == [2, 1]


def test_an_interrupted_repair_can_be_repeated(
    database: Database, batch_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repaired_jobs, "CHUNK_JOBS", 1)
    records = [{"position": 1, "text": "a"}, {"id": "R4", "text": "b"}, {"position": 6, "text": "c"}]
    with monkeypatch.context() as patched:
        patched.setattr(_Repair, "replace_chunk", _interrupted_after(2))
        with pytest.raises(KeyboardInterrupt):
            repair_with(database, batch_id, records, tmp_path)
    assert work_off(database) == [1, 4]

    assert repair_with(database, batch_id, records, tmp_path).jobs == 1

    assert work_off(database) == [6]
    assert repair_with(database, batch_id, records, tmp_path).jobs == 0
    with pytest.raises(InvalidRows, match="line 1: repairs no failed job"):
        repair_with(database, batch_id, [{"position": 1, "text": "another"}], tmp_path)


def test_a_finished_repair_is_repeated_in_few_queries(database: Database, batch_id: str, tmp_path: Path) -> None:
    records = [{"position": 1, "text": "a"}, {"id": "R4", "text": "b"}, {"position": 6, "text": "c"}]
    repair_with(database, batch_id, records, tmp_path)
    work_off(database)
    statements: list[str] = []

    def count_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count_statement)
    try:
        result = repair_with(database, batch_id, records, tmp_path)
    finally:
        event.remove(Engine, "before_cursor_execute", count_statement)

    assert result.jobs == 0
    assert sum("AS input\nFROM jobs" in statement for statement in statements) == 1


@pytest.mark.parametrize("original", ["NULL", "input"])
def test_one_whose_input_was_redacted_since_can_be_repeated(
    database: Database, batch_id: str, tmp_path: Path, original: str
) -> None:
    records = [{"position": 1, "text": "a"}]
    repair_with(database, batch_id, records, tmp_path)
    work_off(database)
    redact = f"UPDATE jobs SET redacted = true, original_input = {original}, input = :input WHERE position IN (0, 1)"
    execute(database, redact, input='{"text": "[REDACTED]"}')

    assert repair_with(database, batch_id, records, tmp_path).jobs == 0

    with pytest.raises(InvalidRows, match="line 1: repairs no failed job"):  # it never ran before
        repair_with(database, batch_id, [{"position": 0, "text": "a"}], tmp_path)


def _interrupted_after(chunks: int) -> Callable[..., int]:
    replace_chunk, calls = _Repair.replace_chunk, count()

    def interrupted(*arguments: Any, **named: Any) -> int:
        if next(calls) == chunks:
            raise KeyboardInterrupt
        return replace_chunk(*arguments, **named)

    return interrupted


def test_a_batch_that_runs_can_t_be_repaired(database: Database, batch_id: str, tmp_path: Path) -> None:
    repair_with(database, batch_id, [{"position": 1, "text": "a"}], tmp_path)

    with pytest.raises(UsageError, match="is in_progress; wait until it has ended"):
        repair_with(database, batch_id, [{"position": 4, "text": "a"}], tmp_path)


def test_a_job_that_failed_in_the_model_takes_another_input(database: Database, batch_id: str, tmp_path: Path) -> None:
    repair_with(database, batch_id, [{"position": 1, "text": "too long"}], tmp_path)
    work_off(database, (1,), "input_too_long")

    repair_with(database, batch_id, [{"position": 1, "text": "short"}], tmp_path)

    work_off(database)
    assert outcomes(database, batch_id)[1][:3] == ("succeeded", "R1", {"text": "short"})


class TestExport:
    """A file of errors comes back with its inputs corrected, and nothing else changes."""

    KEPT: dict[str, Any] = {  # noqa: RUF012
        "id": "7",
        "status": "new",
        "text": "kept",
        "position": 99,
        "=odd": "-2+3",
        "tags": ["a", {"b": 1}],
        "note": None,
    }

    @pytest.fixture
    def exported_id(self, database: Database, tmp_path: Path) -> str:
        """A completed batch with two empty inputs, the first of which has an id, and columns of taken names."""
        path = tmp_path / "in.jsonl"
        rows = [{"key": "=R0", "body": "", **self.KEPT}, {"key": None, "body": "", **self.KEPT}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        columns = ColumnMapping.for_task(PIPELINE.spec, {"text": "body"}, "key", passthrough=self.KEPT)
        columns = replace(columns, is_id_required=False)
        request = SubmitRequest.create(PIPELINE, on_invalid="fail-row")
        with open_source(str(path), columns) as source:
            submission = submit.submit(database, SLICE, request, source)
        assert work_off(database) == []
        return submission.batch_id

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
    def test_only_the_inputs_change(self, database: Database, exported_id: str, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"errors.{suffix}"
        with Client(database.url) as client:
            batch = client.batch(exported_id)
            {"csv": batch.to_csv, "jsonl": batch.to_jsonl, "parquet": batch.to_parquet}[suffix](path)
        _fill_in(path, ["- corrected", "'quoted'"])

        with open_source(str(path), RepairColumns.for_batch(database, exported_id, {}, None)) as source:
            repair.repair_jobs(database, exported_id, source, SLICE)

        assert work_off(database) == [0, 1]
        assert outcomes(database, exported_id) == {
            0: ("succeeded", "=R0", {"text": "- corrected"}, self.KEPT),
            1: ("succeeded", None, {"text": "'quoted'"}, self.KEPT),
        }

    def test_json_takes_each_part_from_its_place(self, database: Database, exported_id: str, tmp_path: Path) -> None:
        kept = {"position": 0, "custom_id": "other", "text": "changed"}
        record = {"position": 1, "text": "no", "tags": "no", "input": {"text": "good"}, "passthrough": kept}

        repair_with(database, exported_id, [record], tmp_path)

        work_off(database)
        expected = self.KEPT | {"position": 0, "text": "changed"}
        assert outcomes(database, exported_id)[1] == ("succeeded", None, {"text": "good"}, expected)

    def test_a_changed_column_of_a_table_replaces_the_old_one(
        self, database: Database, exported_id: str, tmp_path: Path
    ) -> None:
        record = {"position": 1, "text": "good", "meta_status": "old", "status": "failed", "tags": "[" * 5000}

        repair_with(database, exported_id, [record], tmp_path)

        work_off(database)
        expected = self.KEPT | {"status": "old", "tags": "[" * 5000}
        assert outcomes(database, exported_id)[1] == ("succeeded", None, {"text": "good"}, expected)

    def test_a_passthrough_that_is_no_object_is_refused(
        self, database: Database, exported_id: str, tmp_path: Path
    ) -> None:
        record = {"position": 1, "input": {"text": "good"}, "passthrough": ["x"]}

        with pytest.raises(InvalidRows, match="line 1: has a passthrough that is no object"):
            repair_with(database, exported_id, [record], tmp_path)


def _fill_in(path: Path, texts: list[str]) -> None:
    """Write texts into the inputs of an export, as a person or a data frame does."""
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        index = table.column_names.index("text")
        pyarrow.parquet.write_table(table.set_column(index, "text", pyarrow.array(texts)), path)
    elif path.suffix == ".csv":
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        for row, value in zip(rows, texts, strict=True):
            row[header.index("text")] = escape_formula(value)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    else:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record, value in zip(records, texts, strict=True):
            record["input"] = {"text": value}
        path.write_text("".join(json.dumps(record) + "\n" for record in records))


class TestHandle:
    def test_repairs_from_python(self, database: Database, batch_id: str) -> None:
        with Client(database.url) as client:
            batch = client.batch(batch_id)
            rows = [{**row.as_dict(), "input": {"text": "corrected"}} for row in batch.errors("empty_text")]

            batch.repair([*rows, {"position": 6, "text": "whole"}])

            assert (batch.status, batch.request_counts.unanswered, batch.warning) == ("in_progress", 2, None)
        assert work_off(database) == [1, 6]
        assert outcomes(database, batch_id)[1] == ("succeeded", "R1", {"text": "corrected"}, {"region": "US", "n": 2})

    @pytest.mark.parametrize("rows", [[], ["text"], [{"position": 1}], [{"text": "x"}], [{"position": 0, "text": "x"}]])
    def test_and_refuses_the_rest(self, database: Database, batch_id: str, rows: list[Any]) -> None:
        with Client(database.url) as client, pytest.raises(UsageError):
            client.batch(batch_id).repair(rows)

        assert views.get_batch(database, batch_id).status == "completed"


class TestRetry:
    def test_names_the_rows_that_it_can_t_help(self, database: Database, batch_id: str) -> None:
        with pytest.raises(NothingToRetry, match=r"5 rows were invalid .*\(2 duplicate_id, 1 empty_text, .*--repair"):
            retry.retry_jobs(database, batch_id, RetrySelection(), SLICE)

    def test_runs_the_others(self, database: Database, batch_id: str, tmp_path: Path) -> None:
        repair_with(database, batch_id, [{"position": 1, "text": "a"}], tmp_path)
        work_off(database, (1,))

        result = retry.retry_jobs(database, batch_id, RetrySelection(), SLICE)

        assert (result.jobs, result.invalid_rows) == (1, {"duplicate_id": 2, "invalid_row": 1, "missing_field": 1})
        assert result.advice is not None
        assert result.advice.startswith("4 rows were invalid")

    def test_a_misspelt_code_is_an_error(self, database: Database, batch_id: str) -> None:
        with pytest.raises(UsageError, match="no failed job with the code 'emtpy_text'; is empty_text meant"):
            retry.retry_jobs(database, batch_id, RetrySelection(codes=("emtpy_text",)), SLICE)

    @pytest.mark.parametrize("options", [(), ("--json",), ("--status", "expired")])
    def test_with_nothing_to_do_is_no_failure(self, batch_id: str, options: tuple[str, ...]) -> None:
        result = invoke("retry", batch_id, *options)

        assert bool(result.stdout) == ("--json" in options)

    def test_and_its_wait_ends_as_the_batch_did(self, batch_id: str) -> None:
        invoke("retry", batch_id, "--wait", exit_code=3)

    def test_takes_other_outcomes_by_their_codes(self, database: Database, batch_id: str) -> None:
        selection = RetrySelection((JobOutcome.CANCELLED,), ("cancelled",))

        with pytest.raises(NothingToRetry, match="no cancelled jobs"):
            retry.retry_jobs(database, batch_id, selection, SLICE)


class TestCommand:
    def test_takes_the_file_of_errors_back(self, database: Database, batch_id: str, tmp_path: Path) -> None:
        for name in ("errors.csv", "errors.jsonl"):
            invoke("errors", batch_id, "-o", str(tmp_path / name))
        lines = (tmp_path / "errors.csv").read_text().splitlines()
        (tmp_path / "errors.csv").write_text("\n".join([lines[0], lines[1].replace("1,R1,", "1,R1,now filled in")]))

        result = invoke("submit", "--repair", batch_id, str(tmp_path / "errors.csv"), "--json")

        assert json.loads(result.stdout)["request_counts"]["unanswered"] == 1
        assert "1 repaired row" in result.stderr
        work_off(database)
        assert outcomes(database, batch_id)[1] == (
            "succeeded",
            "R1",
            {"text": "now filled in"},
            {"region": "US", "n": 2},
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("-p", PIPELINE.name), "--pipeline can't be given with --repair"),
            (("--reuse",), "--reuse can't be given with --repair"),
            (("--dry-run",), "--dry-run can't be given with --repair"),
            (("--format", "csv"), "names no job"),
            (("--timeout", "3"), "give --wait too"),
        ],
    )
    def test_refuses_what_the_batch_has_already(
        self, batch_id: str, tmp_path: Path, options: tuple[str, ...], message: str
    ) -> None:
        (tmp_path / "a.csv").write_text("text\nx\n")

        result = invoke("submit", "--repair", batch_id, str(tmp_path / "a.csv"), *options, exit_code=2)

        assert message in result.stderr

    def test_without_it_a_pipeline_must_be_named(self, database: Database) -> None:
        result = invoke("submit", "a.csv", exit_code=2)

        assert "say which pipeline: --pipeline NAME" in result.stderr
