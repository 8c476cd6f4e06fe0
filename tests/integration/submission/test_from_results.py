"""Results of a batch become the inputs of another, on both databases."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from batchmill import Client
from models import vectors
from models.db import Database
from models.errors import IdempotencyConflict, InvalidRows, NotFound, UnreadableSource, UsageError
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.states import BatchStatus
from producer.batches import views
from producer.batches.actions import delete
from producer.health import audit
from producer.readers.limits import Limits
from producer.readers.results import reader
from producer.readers.results.columns import ResultColumns
from producer.readers.results.reader import open_results
from producer.readers.results.result_record import ResultRecord
from producer.readers.results.selection import ResultSelection
from producer.readers.rows import Origin, Row, Source
from producer.submission import chunks, submit
from producer.submission.request import SubmitRequest
from tests import fake_worker
from tests.factories.batch_rows import execute

SENTIMENT = next(pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == "sample-sentiment-analysis")
ROOT = Path(__file__).parents[3]
SUMMARY = {"text": "output.summary_text"}


@pytest.fixture(autouse=True)
def environment(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)


MakeBatch = Callable[..., str]


@pytest.fixture
def ended(database: Database) -> MakeBatch:
    """Submit a batch whose jobs have these outputs, a JobError's code as a `str`; returns its id."""

    def make(outputs: list[Any], status: BatchStatus | None = BatchStatus.COMPLETED, **fields: Any) -> str:
        rows = (Row(n + 1, f"id {n}" if n % 3 else None, f"text {n}", {"lang": f"l{n}"}) for n in range(len(outputs)))
        request = SubmitRequest.create(SENTIMENT, **fields)
        batch_id = submit.submit(database, 4, request, Source("a.jsonl", "line", rows)).batch_id
        order = [*range(0, len(outputs), 2), *range(1, len(outputs), 2)]
        fake_worker.write_results(database, batch_id, [(position, outputs[position]) for position in order])
        if status is not None:
            fake_worker.end_batch(database, batch_id, status)
        return batch_id

    return make


def summaries(count: int) -> list[Any]:
    return [[{"summary_text": f"summary {n}"}] for n in range(count)]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


def jobs(database: Database, batch_id: str) -> list[tuple[Any, ...]]:
    columns = "position, custom_id, input, passthrough, source_batch_id, source_position"
    with database.read() as connection:
        found = connection.execute(
            text(f"SELECT {columns} FROM jobs WHERE batch_id = :id ORDER BY position"), {"id": batch_id}
        )
        return [
            (*row[:2], *(json.loads(value) if isinstance(value, str) else value for value in row[2:4]), *row[4:])
            for row in map(tuple, found)
        ]


def read(
    database: Database, batch_id: str, fields: dict[str, str], limits: Limits | None = None, **choices: Any
) -> list[Any]:
    columns = ResultColumns.for_task(SENTIMENT.spec, fields)
    with open_results(database, ResultSelection.create(batch_id, **choices), columns, limits) as source:
        return list(source.rows)


class TestReader:
    def test_rows_come_by_position_through_all_pages(
        self, database: Database, ended: MakeBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader, "FIRST_PAGE_ROWS", 2)
        monkeypatch.setattr(reader, "PAGE_ROWS", 5)
        batch_id = ended([*summaries(12), "model_error", *summaries(1)])

        rows = read(database, batch_id, SUMMARY)

        assert [row.location for row in rows] == [*range(12), 13]
        assert rows[1] == Row(1, "id 1", {"text": "summary 1"}, None, Origin(batch_id, 1))

    def test_all_rows_come_from_one_snapshot(
        self, database: Database, ended: MakeBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader, "PAGE_ROWS", 2)
        batch_id = ended(summaries(7))
        columns = ResultColumns.for_task(SENTIMENT.spec, SUMMARY)
        with open_results(database, ResultSelection.create(batch_id), columns) as source:
            first = next(source.rows)

            delete.delete(database, batch_id)

            assert len([first, *source.rows]) == 7
        with pytest.raises(NotFound):
            read(database, batch_id, SUMMARY)

    def test_statuses_labels_and_scores_choose(self, database: Database, ended: MakeBatch) -> None:
        outputs = [{"label": label, "score": score} for label, score in (("A", 0.9), ("B", 0.8), ("A", 0.5))]
        batch_id = ended([*outputs, "text_too_long"])

        def positions(**choices: Any) -> list[int]:
            return [row.location for row in read(database, batch_id, {"text": "input.text"}, **choices)]

        assert positions() == [0, 1, 2]
        assert positions(status="failed") == [3]
        assert positions(status=["succeeded", "failed"]) == [0, 1, 2, 3]
        assert positions(labels=["A"]) == [0, 2]
        assert positions(labels=["A", "B"], min_score=0.6) == [0, 1]
        assert positions(labels=["C"]) == []

    def test_labels_that_were_judged_apart_are_known_by_the_parameters(
        self, database: Database, ended: MakeBatch
    ) -> None:
        batch_id = ended([{"labels": ["A", "B"], "scores": [0.9, 0.8]}])
        chosen = {"fields": {"text": "input.text"}, "labels": ["B"], "min_score": 0.5}

        assert read(database, batch_id, **chosen) == []
        execute(database, "UPDATE batches SET parameters = :parameters", parameters='{"multi_label": true}')
        assert len(read(database, batch_id, **chosen)) == 1

    @pytest.mark.parametrize("status", [None, BatchStatus.CANCELLING, BatchStatus.VALIDATING])
    def test_a_batch_must_have_ended(self, database: Database, ended: MakeBatch, status: BatchStatus | None) -> None:
        batch_id = ended(summaries(1), status=None)
        if status is not None:
            execute(database, "UPDATE batches SET status = :status", status=status.value)

        with pytest.raises(UsageError, match=f"batchmill wait {batch_id}"):
            read(database, batch_id, SUMMARY)

    def test_a_batch_that_is_being_deleted_is_not_there(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended(summaries(1))
        execute(database, "UPDATE batches SET status = 'deleting'")

        with pytest.raises(NotFound, match="being deleted"):
            read(database, batch_id, SUMMARY)

    def test_a_redacted_input_is_read_as_redacted(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended(summaries(1))
        documents = {"redacted": '{"text": "[NAME]"}', "original": '{"text": "Ada"}'}
        cast = "CAST(:{} AS JSONB)" if database.engine.dialect.name == "postgresql" else ":{}"
        update = "UPDATE jobs SET redacted = true, input = {}, original_input = {}"
        execute(database, update.format(*(cast.format(name) for name in documents)), **documents)

        assert [row.raw_input for row in read(database, batch_id, {"text": "input.text"})] == [{"text": "[NAME]"}]
        with pytest.raises(UnreadableSource):
            read(database, batch_id, {"text": "original_input.text"})

    def test_a_name_that_only_a_late_row_has_is_accepted(self, database: Database, ended: MakeBatch) -> None:
        rows = read(database, ended([*summaries(20), {"label": "A"}]), {"text": "output.label"})

        assert [row.location for row in rows if isinstance(row, Row)] == [20]

    def test_a_name_that_no_row_has_is_refused(self, database: Database, ended: MakeBatch) -> None:
        with pytest.raises(UnreadableSource, match=r"no column 'output.text'; it has: output.summary_text, input.text"):
            read(database, ended(summaries(20)), {"text": "output.text"})

    def test_sources_have_their_limits(self, database: Database, ended: MakeBatch) -> None:
        with pytest.raises(UsageError, match="position 3: the source has more than 200 bytes"):
            read(database, ended(summaries(9)), SUMMARY, Limits(max_source_bytes=200))


class TestSubmit:
    def test_rows_carry_ids_kept_columns_and_links(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended([*summaries(2), "model_error", *summaries(1)])
        options = ["--input", "text=output.summary_text", "--passthrough", "lang", "--passthrough", "input.text"]

        result = run("submit", "--from", batch_id, "-p", SENTIMENT.name, *options)

        assert result.exit_code == 0, result.output
        new_id = result.stdout.strip()
        assert jobs(database, new_id) == [
            (0, None, {"text": "summary 0"}, {"lang": "l0", "input.text": "text 0"}, batch_id, 0),
            (1, "id 1", {"text": "summary 1"}, {"lang": "l1", "input.text": "text 1"}, batch_id, 1),
            (2, None, {"text": "summary 0"}, {"lang": "l3", "input.text": "text 3"}, batch_id, 3),
        ]
        assert views.get_batch(database, new_id).source_batch_id == batch_id

    def test_python_chooses_in_the_same_way(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended([{"label": "A", "score": 0.9}, {"label": "B", "score": 0.9}, {"label": "B", "score": 0.1}])
        with Client() as client:
            source = client.batch(batch_id)

            batch = client.submit(
                SENTIMENT.name, from_batch=source, labels="B", min_score=0.5, input_columns={"text": "input.text"}
            )
            failed = client.submit(
                SENTIMENT.name,
                from_batch=batch_id,
                status="succeeded",
                id_column="lang",
                input_columns={"text": "output.label"},
            )

        assert jobs(database, batch.id) == [(0, "id 1", {"text": "text 1"}, None, batch_id, 1)]
        assert [job[1] for job in jobs(database, failed.id)] == ["l0", "l1", "l2"]

    @pytest.mark.parametrize(
        ("arguments", "exit_code", "problem"),
        [
            (["--from", "batch_0"], 4, "there is no batch 'batch_0'"),
            (["--from", "ID", "a.jsonl"], 2, "say what to submit"),
            (["--from", "ID", "--sql", "a"], 2, "say what to submit"),
            (["--from", "ID", "--format", "csv"], 2, "--format and --bind"),
            (["--label", "A", "a.jsonl"], 2, "--from BATCH_ID"),
            (["--from", "ID", "--label", "A"], 2, "has no rows, so there is nothing to submit"),
            (["--from", "ID", "--status", "failed", "--label", "A"], 2, "succeeded results only"),
            (["--from", "ID", "--passthrough", "region"], 2, "has no column 'region'"),
            (["--from", "ID", "--id", "sku"], 2, "has no column 'sku'"),
            (["--repair", "ID", "--from", "ID"], 2, "--from can't be given with --repair"),
        ],
    )
    def test_what_can_not_be_is_refused_and_leaves_nothing(
        self, database: Database, ended: MakeBatch, arguments: list[str], exit_code: int, problem: str
    ) -> None:
        batch_id = ended(summaries(2))
        words = [batch_id if word == "ID" else word for word in arguments]
        key = [] if "--repair" in arguments else ["--idempotency-key", "k"]

        pipeline = [] if "--repair" in arguments else ["-p", SENTIMENT.name]

        result = run("submit", *pipeline, "--input", "text=output.summary_text", *key, *words)

        assert (result.exit_code, problem in result.stderr) == (exit_code, True), result.stderr
        with database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM batches")) == 1

    def test_rows_without_the_name_are_invalid(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended([*summaries(1), {"label": "A"}])
        with Client() as client:
            with pytest.raises(InvalidRows, match=r"position 1: has no 'output.summary_text'; it has: output.label"):
                client.submit(SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY)

            batch = client.submit(SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY, on_invalid="fail-row")

            [failed] = batch.errors()

        assert (failed.error_code, failed.custom_id) == ("missing_field", "id 1")
        assert (failed.source_batch_id, failed.source_position) == (batch_id, 1)

    def test_a_name_that_no_row_has_is_accepted_where_invalid_rows_are_kept(
        self, database: Database, ended: MakeBatch
    ) -> None:
        batch_id = ended([[], []])
        options = ["--input", "text=output.0.word", "--passthrough", "region", "--on-invalid", "fail-row"]

        result = run("submit", "--from", batch_id, "-p", SENTIMENT.name, *options)

        assert result.exit_code == 0, result.stderr
        with Client() as client:
            failed = list(client.batch(result.stdout.strip()).errors())
        assert [(row.error_code, row.passthrough) for row in failed] == [("missing_field", {"region": None})] * 2

    def test_an_input_that_was_cut_is_invalid_again(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_MAX_INPUT_CHARACTERS", "18000")
        inputs = [{"text": "a" * 20_000}, {"text": 5}]
        with Client() as client:
            batch = client.submit(SENTIMENT.name, inputs, on_invalid="fail-row")
            fake_worker.end_batch(database, batch.id)
            again: dict[str, Any] = {"from_batch": batch, "status": "failed", "on_invalid": "fail-row"}

            for name in ("input.text", "input"):
                followed = client.submit(SENTIMENT.name, **again, input_columns={"text": name})
                cut, whole = followed.errors()

                assert cut.error_message is not None
                assert "text was kept only in part; submit it from its file" in cut.error_message
                assert "in part" not in str(whole.error_message)

    def test_a_vector_is_no_text(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended([vectors.from_numbers([0.5, 0.25])])

        result = run("submit", "--from", batch_id, "-p", SENTIMENT.name, "--input", "text=output")

        assert result.exit_code == 2
        assert "position 0: text is a vector, and no text" in result.stderr

    def test_a_dry_run_checks_the_rows(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended(summaries(3))

        result = run(
            *("submit", "--from", batch_id, "-p", SENTIMENT.name, "--input", "text=output.summary_text"),
            *("--dry-run", "--json"),
        )

        assert json.loads(result.stdout)["jobs"] == 3
        with database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM batches")) == 1

    def test_show_names_the_batches_before_and_after(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended(summaries(1))
        with Client() as client:
            batch = client.submit(SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY)

        assert f"results of {batch_id}" in run("show", batch.id).stdout
        assert json.loads(run("show", batch.id, "--json").stdout)["source_batch_id"] == batch_id
        assert batch.id in run("show", batch_id).stdout
        assert json.loads(run("show", batch_id, "--json").stdout)["follower_batch_ids"] == [batch.id]

    def test_exports_have_the_links_of_a_batch_that_has_them(
        self, database: Database, ended: MakeBatch, tmp_path: Path
    ) -> None:
        batch_id = ended(summaries(2))
        with Client() as client:
            batch = client.submit(SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY)
            fake_worker.write_results(database, batch.id, [(n, {"label": "A", "score": 0.5}) for n in (0, 1)])
            fake_worker.end_batch(database, batch.id)

            batch.to_csv(tmp_path / "new.csv")
            client.batch(batch_id).to_csv(tmp_path / "old.csv")
            batch.to_jsonl(tmp_path / "new.jsonl")
            batch.to_sql("answers")
            table = batch.to_arrow()

        header, first = (tmp_path / "new.csv").read_text().splitlines()[:2]
        assert header.endswith(
            ",windows,guards,input_tokens,output_tokens,finish_reason,source_batch_id,source_position"
        )
        assert first.endswith(f",{batch_id},0")
        assert (
            (tmp_path / "old.csv")
            .read_text()
            .splitlines()[0]
            .endswith(",windows,guards,input_tokens,output_tokens,finish_reason")
        )
        lines = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
        assert [(line["source_batch_id"], line["source_position"]) for line in lines] == [(batch_id, 0), (batch_id, 1)]
        assert table.column("source_position").to_pylist() == [0, 1]
        with database.read() as connection:
            found = connection.scalars(text("SELECT source_position FROM answers ORDER BY position")).all()
        assert found == [0, 1]

    def test_links_of_a_deleted_batch_point_to_nothing(self, database: Database, ended: MakeBatch) -> None:
        batch_id = ended(summaries(1))
        with Client() as client:
            batch = client.submit(SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY)

        delete.delete(database, batch_id)

        assert jobs(database, batch.id)[0][4:] == (batch_id, 0)
        assert all(found.is_sound for found in audit.audit_all(database, 60.0))


class TestTheSameAgain:
    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)

    @staticmethod
    def submit_again(batch_id: str, key: str = "k", **options: Any) -> str:
        with Client() as client:
            batch = client.submit(
                SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY, idempotency_key=key, **options
            )
            return batch.id

    def half_way(self, database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Submit under the key until four rows are read, as of a submitter that has disappeared."""

        def break_off(record: ResultRecord) -> Origin:
            if record["position"] == 4:
                raise KeyboardInterrupt
            return Origin(record["batch_id"], record["position"])

        with monkeypatch.context() as patched:
            patched.setattr(ResultRecord, "origin", property(break_off))
            with pytest.raises(KeyboardInterrupt):
                self.submit_again(batch_id)
        by = "elsewhere"
        execute(database, "UPDATE batches SET holder_id = :by, holder_heartbeat_at = '2020-01-01'", by=by)

    def test_goes_on_where_it_was_broken_off(
        self, database: Database, ended: MakeBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch_id = ended(summaries(8))
        self.half_way(database, batch_id, monkeypatch)

        new_id = self.submit_again(batch_id)

        assert [job[4:] for job in jobs(database, new_id)] == [(batch_id, position) for position in range(8)]
        assert self.submit_again(batch_id) == new_id

    def test_is_refused_after_the_results_have_changed(
        self, database: Database, ended: MakeBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch_id = ended(summaries(8))
        self.half_way(database, batch_id, monkeypatch)
        execute(database, "UPDATE results SET status = 'failed', output = NULL WHERE position = 1")

        with pytest.raises(IdempotencyConflict, match="this source differs from it"):
            self.submit_again(batch_id)

    def test_is_another_request_for_another_batch(self, ended: MakeBatch) -> None:
        first, second = ended(summaries(2)), ended(summaries(2))
        self.submit_again(first)

        with pytest.raises(IdempotencyConflict, match="source batch, webhook or way"):
            self.submit_again(second)


def test_reused_results_have_links_too(database: Database, ended: MakeBatch) -> None:
    batch_id = ended(summaries(3))
    with Client() as client:
        options: dict[str, Any] = {"from_batch": batch_id, "input_columns": SUMMARY, "reuse": True}

        batch = client.submit(SENTIMENT.name, **options)

    assert [job[4:] for job in jobs(database, batch.id)] == [(batch_id, position) for position in range(3)]


def test_a_repaired_job_keeps_its_link(database: Database, ended: MakeBatch, tmp_path: Path) -> None:
    batch_id = ended([*summaries(2), {"label": "A"}])
    with Client() as client:
        batch = client.submit(SENTIMENT.name, from_batch=batch_id, input_columns=SUMMARY, on_invalid="fail-row")
        fake_worker.write_results(database, batch.id, [(0, {"label": "A"}), (1, {"label": "A"})])
        fake_worker.end_batch(database, batch.id)

        batch.repair([{"position": 2, "text": "mended"}])

    assert [job[2:] for job in jobs(database, batch.id)][2] == ({"text": "mended"}, None, batch_id, 2)


def test_the_query_and_the_join_of_the_page_work(
    database: Database, database_url: str, ended: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "chaining.md").read_text("utf-8")
    [settings] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    [join] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    sources = tomllib.loads(settings)["sources"]
    sources["doubtful"]["url"] = database_url
    monkeypatch.setenv("BATCHMILL_SOURCES", json.dumps(sources))
    batch_id = ended([{"label": "A", "score": 0.9}, {"label": "B", "score": 0.5}])

    bound = ["--sql", "doubtful", "--bind", f"batch={batch_id}", "--passthrough", "label", "--passthrough", "position"]
    result = run("submit", *bound, "-p", SENTIMENT.name)

    assert result.exit_code == 0, result.stderr
    assert [job[:4] for job in jobs(database, result.stdout.strip())] == [
        (0, "id 1", {"text": "text 1"}, {"label": "B", "position": 1})
    ]
    with Client() as client:
        batch = client.submit(SENTIMENT.name, from_batch=batch_id, input_columns={"text": "input.text"})
    fake_worker.write_results(database, batch.id, [(n, {"labels": [f"l{n}"]}) for n in (0, 1)])
    statement = re.sub(r"batch_id = 'batch_\w+'", "batch_id = :id", join).rstrip().rstrip(";")
    with database.read() as connection:
        rows = [tuple(row) for row in connection.execute(text(statement), {"id": batch.id})]
    assert [(custom_id, float(score), about) for custom_id, score, about in rows] == [
        (None, 0.9, "l0"),
        ("id 1", 0.5, "l1"),
    ]
