"""Submitting over HTTP: small sources within the request, others afterwards; nothing stays of what was refused."""

import codecs
import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from anyio import to_thread
from sqlalchemy import text
from starlette.testclient import TestClient

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.batches import views
from producer.dry_run import file_trial
from producer.server.following import streams
from producer.server.native.batches import objects
from producer.server.native.batches.submission import bodies, sample_check
from producer.uploads import files
from producer.uploads.files import PURPOSE_OUTPUT, NewFile
from producer.uploads.intake import immediate_reading
from producer.uploads.intake.intake import Intake, Outcome
from producer.uploads.previews import preview
from tests import fake_worker
from tests.factories.http_server import client_over, key_headers

PIPELINE = "sample-sentiment-analysis"
LINES = {"content-type": "application/x-ndjson"}


def fetch_all(database: Database, query: str, **parameters: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(text(query), parameters))


def submit(client: TestClient, document: dict[str, Any], **headers: str) -> Any:
    content = json.dumps({"pipeline": PIPELINE, **document})  # in ASCII, so that a test may send half a surrogate pair
    return client.post("/api/batches", content=content, headers={"content-type": "application/json", **headers})


def submit_body(client: TestClient, content: bytes, kind: str = LINES["content-type"], **params: Any) -> Any:
    params = {"pipeline": PIPELINE, **params}
    return client.post("/api/batches", params=params, content=content, headers={"content-type": kind})


def stored_jobs(database: Database, batch_id: str) -> list[tuple[str | None, str]]:
    """The ids and texts of a batch's jobs."""
    query = "SELECT custom_id, input FROM jobs WHERE batch_id = :id ORDER BY position"
    rows = fetch_all(database, query, id=batch_id)
    return [
        (custom_id, (json.loads(document) if isinstance(document, str) else document)["text"])
        for custom_id, document in rows
    ]


def stored_files(home: Path) -> list[Path]:
    """What the file store has, except the file that names it."""
    return [path for path in home.rglob("*") if path.is_file() and len(path.name) == 32]


def count_rows(database: Database, table: str) -> int:
    return int(fetch_all(database, f"SELECT count(*) FROM {table}")[0][0])


class TestJson:
    def test_a_document_has_no_encoding(self, api: TestClient) -> None:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}

        response = api.post("/api/batches", content=gzip.compress(b"{}"), headers=headers)

        assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_encoding")

    def test_inputs_become_jobs(self, api: TestClient, database: Database) -> None:
        response = submit(
            api,
            {
                "inputs": ["a fine day", {"id": 7, "text": "a bad day"}],
                "name": "reviews",
                "metadata": {"day": "monday"},
                "priority": 5,
                "deadline": "6h",
                "max_failures": "50%",
            },
        )

        assert response.status_code == 201, response.text
        batch = response.json()
        objects.SubmittedBatch.model_validate(batch)
        assert set(batch) == set(objects.SubmittedBatch.model_fields)
        assert response.headers["location"] == f"/api/batches/{batch['id']}"
        assert stored_jobs(database, batch["id"]) == [(None, "a fine day"), ("7", "a bad day")]
        assert (batch["name"], batch["metadata"], batch["priority"]) == ("reviews", {"day": "monday"}, 5)
        assert (batch["status"], batch["already_submitted"]) == ("in_progress", False)
        assert batch["expires_at"]
        assert "safe in SQL" in batch["warning"]

    def test_ids_columns_and_passthrough(self, api: TestClient, database: Database) -> None:
        options = {"input_columns": {"text": "body"}, "id_column": "key", "passthrough": "region"}
        columns = submit(api, {"inputs": [{"key": "k", "body": "a", "region": "EU"}], **options}).json()
        ids = submit(api, {"inputs": ["a", "b"], "ids": ["x", "y"]}).json()

        assert stored_jobs(database, columns["id"]) == [("k", "a")]
        assert stored_jobs(database, ids["id"]) == [("x", "a"), ("y", "b")]

    def test_a_byte_order_mark_is_passed_over(self, api: TestClient) -> None:
        content = codecs.BOM_UTF8 + json.dumps({"pipeline": PIPELINE, "inputs": ["a"]}).encode()

        response = api.post("/api/batches", content=content, headers={"content-type": "application/json"})

        assert response.status_code == 201, response.text

    def test_a_key_is_as_long_as_the_document_says(self, api: TestClient) -> None:
        longest, longer = (submit(api, {"inputs": ["a"]}, **{"idempotency-key": "k" * size}) for size in (255, 256))

        assert (longest.status_code, longer.status_code) == (201, 400)

    def test_rows_that_can_not_be_jobs_refuse_it_whole(self, api: TestClient, database: Database) -> None:
        response = submit(api, {"inputs": ["a", 7, {"texte": "b"}]})

        error = response.json()["error"]
        assert (response.status_code, error["code"], error["type"]) == (400, "invalid_rows", "invalid_request_error")
        assert [problem.partition(":")[0] for problem in error["problems"]] == ["item 2", "item 3"]
        assert (count_rows(database, "batches"), count_rows(database, "jobs")) == (0, 0)

    def test_or_they_become_failed_jobs(self, api: TestClient) -> None:
        batch = submit(api, {"inputs": ["a", 7], "on_invalid": "fail-row"}).json()

        assert (batch["request_counts"]["total"], batch["request_counts"]["failed"]) == (2, 1)

    def test_a_key_makes_a_repeat_the_same_batch(self, api: TestClient, database: Database) -> None:
        key = {"idempotency-key": "monday"}
        first, second = (submit(api, {"inputs": ["a"]}, **key) for _ in range(2))
        other = submit(api, {"inputs": ["b"]}, **key)

        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["id"] == second.json()["id"]
        assert second.json()["already_submitted"]
        assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
        assert other.headers["x-should-retry"] == "false"
        assert count_rows(database, "batches") == 1

    @pytest.mark.parametrize(
        ("document", "status", "message"),
        [
            ({}, 400, "say what to submit"),
            ({"inputs": ["a"], "from_batch": "b"}, 400, "only one of them"),
            ({"inputs": "a text"}, 400, "inputs: "),
            ({"inputs": ["a"], "files": "/etc/passwd"}, 400, "files: "),
            ({"inputs": ["a"], "pipeline": "none"}, 400, "there is no pipeline 'none'"),
            ({"inputs": ["a"], "parameters": {"top_q": 1}}, 400, "top_q"),
            ({"inputs": ["a"], "name": "\0"}, 400, "NUL"),
            ({"inputs": ["a"], "priority": 5000}, 400, "priority"),
            ({"inputs": ["a"], "metadata": {"a": 1}}, 400, "metadata.a"),
            ({"inputs": ["a"], "deadline": "2020-01-01"}, 400, "has passed"),
            ({"inputs": ["a"], "ids": ["x"], "id_column": "y"}, 400, "give one of them"),
            ({"sql": "nightly"}, 400, "there is no source 'nightly'"),
            ({"from_batch": "batch_none"}, 404, "batch_none"),
            ({"file_id": "file-none"}, 404, "file-none"),
            ({"from_batch": "b", "labels": "\ud800"}, 400, "surrogate"),
            ({"from_batch": "b", "input_columns": {"text": "\ud800"}}, 400, "surrogate"),
            *(({"file_id": "file-a", name: ["a\0"]}, 400, "NUL") for name in ("passthrough", "column_names")),
            ({"file_id": "file-a", "input_columns": {"text": "\\\0"}}, 400, "NUL"),
            ({"file_id": "file-none", "passthrough": ["\\u0000"]}, 404, "file-none"),
            ({"inputs": [], "status": ["succeeded"]}, 400, "choose among the results of a batch"),
        ],
    )
    def test_a_wrong_request_is_one_sentence(
        self, api: TestClient, database: Database, document: dict[str, Any], status: int, message: str
    ) -> None:
        response = submit(api, document)

        assert response.status_code == status, response.text
        assert message in response.json()["error"]["message"]
        assert "a text" not in response.json()["error"]["message"]
        assert count_rows(database, "batches") == 0

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[" * 50_000, b"[]", b'"text"', b'{"pipeline": NaN}', b"\xff", b'{"a": 1, "a": 2}', b"1" * 5000],
    )
    def test_a_body_that_is_no_object_is_refused(self, api: TestClient, content: bytes) -> None:
        response = api.post("/api/batches", content=content, headers={"content-type": "application/json"})

        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")

    def test_a_long_name_is_cut_in_the_error(self, api: TestClient) -> None:
        response = api.post(f"/api/batches?{'x' * 2_000}=1", json={"pipeline": PIPELINE, "inputs": ["a"]})

        assert (response.status_code, response.json()["error"]["param"]) == (400, "x" * 200)

    def test_a_body_that_would_fill_the_memory_is_refused(self, api: TestClient) -> None:
        content = b'{"pipeline": "x", "inputs": [' + b'{"a":{}},' * 300_000 + b"0]}"

        response = api.post("/api/batches", content=content, headers={"content-type": "application/json"})

        assert (response.status_code, "MiB in memory" in response.json()["error"]["message"]) == (400, True)

    def test_a_large_body_is_refused_with_the_way_to_send_it(
        self, api: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bodies, "MAX_JSON_BYTES", 100)

        response = submit(api, {"inputs": ["a" * 100]})

        assert response.status_code == 413
        assert "application/x-ndjson" in response.json()["error"]["message"]


class TestBodies:
    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("application/x-ndjson", b'{"text": "a", "id": "x"}\n{"text": "b", "id": "y"}'),
            ("application/jsonl; charset=utf-8", b'{"text": "a", "id": "x"}\n\n{"text": "b", "id": "y"}\n'),
            ("text/csv", b"id,text\nx,a\ny,b\n"),
            ("text/tab-separated-values", b"id\ttext\nx\ta\ny\tb\n"),
            ("text/csv", gzip.compress(b"id,text\nx,a\ny,b\n", mtime=0)),
        ],
    )
    def test_rows_of_every_type(
        self, api: TestClient, database: Database, batchmill_home: Path, kind: str, content: bytes
    ) -> None:
        response = submit_body(api, content, kind, metadata='{"day": "monday"}', name="rows")

        assert response.status_code == 201, response.text
        assert stored_jobs(database, response.json()["id"]) == [("x", "a"), ("y", "b")]
        assert response.json()["metadata"] == {"day": "monday"}
        assert stored_files(batchmill_home) == []
        assert count_rows(database, "files") == 0

    def test_parquet(self, api: TestClient, database: Database, database_url: str, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"body": ["a", "b"], "region": ["EU", None]}), tmp_path / "rows.parquet")
        response = submit_body(
            api,
            (tmp_path / "rows.parquet").read_bytes(),
            "application/vnd.apache.parquet",
            input_columns='{"text": "body"}',
            passthrough=["region"],
            wait=0,
        )

        assert response.status_code == 202, response.text  # a small file may have any number of rows
        assert take_in(database, database_url, response.json()["id"]) is Outcome.ACCEPTED
        assert stored_jobs(database, response.json()["id"]) == [(None, "a"), (None, "b")]

    def test_a_small_body_with_many_rows_is_read_afterwards(self, api: TestClient, database: Database) -> None:
        bomb = gzip.compress(b'{"text": "a"}\n' * 100_000, mtime=0)

        response = submit_body(api, bomb, wait=0)

        assert (response.status_code, response.json()["status"]) == (202, "validating")
        assert count_rows(database, "jobs") == 0

    @pytest.mark.parametrize(
        ("fields", "name"), [({}, "rows.csv"), ({"file_format": "csv"}, "rows"), ({"passthrough": '["x"]'}, "a.CSV")]
    )
    def test_a_form(
        self, api: TestClient, database: Database, batchmill_home: Path, fields: dict[str, str], name: str
    ) -> None:
        data = {"pipeline": PIPELINE, **fields}
        response = api.post("/api/batches", data=data, files={"file": (name, b"text,x\na,1\n")})

        assert response.status_code == 201, response.text
        assert stored_jobs(database, response.json()["id"]) == [(None, "a")]
        assert stored_files(batchmill_home) == []

    def test_a_form_has_no_wait(self, api: TestClient, batchmill_home: Path) -> None:
        data = {"pipeline": PIPELINE, "wait": "1"}

        response = api.post("/api/batches", data=data, files={"file": ("rows.csv", b"text\na\n")})

        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
        assert "query string" in response.json()["error"]["message"]
        assert stored_files(batchmill_home) == []

    @pytest.mark.parametrize(
        ("params", "kind", "status", "message"),
        [
            ({"name": ["a", "b"]}, "text/csv", 400, "given twice"),
            ({"metadata": "[]"}, "text/csv", 400, "metadata must be a JSON object"),
            ({"metadata": "{"}, "text/csv", 400, "metadata is not JSON"),
            ({"inputs": "[]"}, "text/csv", 400, "JSON body"),
            ({"from_batch": "x"}, "text/csv", 400, "leave out sql"),
            ({"unknown": "x"}, "text/csv", 400, "unknown"),
            ({"wait": "70"}, "text/csv", 400, "wait"),
            ({}, "application/octet-stream", 400, "file_format"),
            ({}, "text/html", 415, "Content-Type"),
            ({}, "", 415, "Content-Type"),
        ],
    )
    def test_wrong_options_are_refused(
        self, api: TestClient, batchmill_home: Path, params: dict[str, Any], kind: str, status: int, message: str
    ) -> None:
        response = submit_body(api, b"text\na\n", kind, **params)

        assert response.status_code == status, response.text
        assert message in response.json()["error"]["message"]
        assert (response.json()["error"]["code"] == "unsupported_media_type") == (status == 415)
        assert stored_files(batchmill_home) == []

    def test_wrong_rows_leave_nothing_behind(self, api: TestClient, database: Database, batchmill_home: Path) -> None:
        response = submit_body(api, b'{"text": "a"}\n{"texte": "b"}\n')

        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_rows")
        assert response.json()["error"]["problems"][0].startswith("line 2: ")
        assert stored_files(batchmill_home) == []
        assert (count_rows(database, "batches"), count_rows(database, "files")) == (0, 0)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every body be too large to be read within its request."""
    monkeypatch.setattr(immediate_reading, "MAX_IMMEDIATE_BYTES", 0)


def take_in(database: Database, url: str, batch_id: str) -> Outcome:
    settings = Settings(database_url=url)
    return Intake(database, settings, Catalogue.load(settings)).take_in(batch_id)


@pytest.mark.usefixtures("later")
class TestLater:
    def test_waiting_keeps_nobody_from_uploading(
        self, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[int] = []
        with client_over(database, database_url) as api:
            slots = api.app.state.upload_slots  # type: ignore[attr-defined]

            async def look(*_: object) -> None:
                taken.append(slots._taken.total())

            monkeypatch.setattr(streams, "wait_until", look)
            submit(api, {"inputs": ["a"]})
            submit_body(api, b'"a"\n')
            full = [slots.take() for _ in range(16)]
            refused = submit_body(api, b'"a"\n')
            served = submit(api, {"inputs": ["a"]})

        assert (taken[:2], len(full)) == ([0, 0], 16)
        assert (refused.status_code, served.status_code) == (429, 201), "documents need no slot of uploads"

    def test_a_large_body_is_taken_in_afterwards(self, api: TestClient, database: Database, database_url: str) -> None:
        response = submit_body(api, b'{"text": "a"}\n{"text": "b"}\n', wait=0)
        batch = response.json()

        assert (response.status_code, batch["status"]) == (202, "validating")
        assert batch["input_file_id"].startswith("file-")
        assert take_in(database, database_url, batch["id"]) is Outcome.ACCEPTED
        assert stored_jobs(database, batch["id"]) == [(None, "a"), (None, "b")]
        assert api.get(response.headers["location"]).json()["status"] == "in_progress"

    def test_wrong_rows_fail_the_batch(self, api: TestClient, database: Database, database_url: str) -> None:
        batch = submit_body(api, b'{"texte": "a"}\n', wait=0).json()

        assert take_in(database, database_url, batch["id"]) is Outcome.FAILED
        failed = api.get(f"/api/batches/{batch['id']}").json()
        assert (failed["status"], failed["error_code"]) == ("failed", "invalid_rows")
        assert failed["input_errors"][0]["line"] == 1

    @pytest.mark.parametrize(
        ("content", "code", "message"),
        [(b'"b"\n{"texte": "a"}\n', "invalid_rows", "text"), (b"\n", "unreadable_source", "no rows")],
    )
    def test_wrong_rows_are_refused_if_the_request_still_waits(
        self,
        api: TestClient,
        database: Database,
        database_url: str,
        monkeypatch: pytest.MonkeyPatch,
        content: bytes,
        code: str,
        message: str,
    ) -> None:
        async def read(*_: object) -> None:
            [(batch_id,)] = fetch_all(database, "SELECT id FROM batches")
            await to_thread.run_sync(take_in, database, database_url, batch_id)

        monkeypatch.setattr(streams, "wait_until", read)
        headers = {**LINES, "idempotency-key": "monday"}
        refused = api.post("/api/batches", params={"pipeline": PIPELINE}, content=content, headers=headers)
        mended = api.post("/api/batches", params={"pipeline": PIPELINE}, content=b'"a"\n', headers=headers)

        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, code), refused.text
        assert message in error["message"]
        assert [problem.partition(":")[0] for problem in error.get("problems", ["line 2"])] == ["line 2"]
        assert (mended.status_code, mended.json()["status"]) == (201, "in_progress")
        assert count_rows(database, "batches") == 1

    def test_a_repeat_of_a_cancelled_batch_says_that_nothing_runs(self, api: TestClient) -> None:
        params, headers = {"pipeline": PIPELINE, "wait": 0}, {**LINES, "idempotency-key": "monday"}
        first = api.post("/api/batches", params=params, content=b'"a"\n', headers=headers).json()
        api.post(f"/api/batches/{first['id']}/cancel")

        second = api.post("/api/batches", params=params, content=b'"a"\n', headers=headers)

        assert (second.status_code, first["warning"]) == (200, None)
        assert "is cancelled, and nothing was submitted now" in second.json()["warning"]

    def test_a_repeat_under_a_key_is_the_same_batch_and_no_file_is_listed(
        self, api: TestClient, database: Database
    ) -> None:
        headers = {**LINES, "idempotency-key": "monday"}
        first, second = (
            api.post("/api/batches", params={"pipeline": PIPELINE, "wait": 0}, content=b'"a"\n', headers=headers)
            for _ in range(2)
        )

        assert first.json()["id"] == second.json()["id"]
        assert second.json()["already_submitted"]
        assert fetch_all(database, "SELECT count(*) FROM files WHERE deleted_at IS NULL")[0][0] == 0  # not listed

    def test_results_of_a_batch(self, api: TestClient, database: Database, database_url: str) -> None:
        source = submit(api, {"inputs": ["a", "b"]}).json()["id"]
        fake_worker.write_results(database, source, [(0, {"label": "X", "score": 0.9}), (1, "model_error")])
        fake_worker.end_batch(database, source)

        response = api.post(
            "/api/batches?wait=0",
            json={"pipeline": PIPELINE, "from_batch": source, "input_columns": {"text": "output.label"}},
        )

        assert response.status_code == 202, response.text
        assert take_in(database, database_url, response.json()["id"]) is Outcome.ACCEPTED
        assert stored_jobs(database, response.json()["id"]) == [(None, "X")]
        assert views.get_batch(database, response.json()["id"]).source_batch_id == source


@pytest.mark.parametrize(
    ("bind", "message"),
    [({}, "needs day"), ({"day": 1, "night": 2}, "has no parameter 'night'"), ({"day": [1]}, "a number or null")],
)
def test_parameters_of_a_query_are_checked_at_once(
    database: Database, database_url: str, bind: dict[str, Any], message: str
) -> None:
    source = {"url": database_url, "query": "SELECT id AS text FROM batches WHERE name = :day"}
    with client_over(database, database_url, sources={"orders": source}) as api:
        response = submit(api, {"sql": "orders", "bind": bind})

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert count_rows(database, "batches") == 0


def test_results_are_no_input(api: TestClient, database: Database, database_url: str) -> None:
    settings, results = Settings(database_url=database_url), NewFile("output.jsonl", PURPOSE_OUTPUT)
    file_id = database.transact(partial(files.insert_file, sql=database.sql, settings=settings, new=results))

    response = submit(api, {"file_id": file_id})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "file_id")
    assert count_rows(database, "batches") == 0


class TestTenants:
    def test_a_batch_belongs_to_the_tenant_of_the_key(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url) as api:
            mine, all_tenants = key_headers(database, "mine"), key_headers(database, None)
            batch = submit(api, {"inputs": ["a"]}, **mine).json()
            given = submit(api, {"inputs": ["a"], "tenant": "other"}, **all_tenants).json()
            refused = submit(api, {"inputs": ["a"], "tenant": "other"}, **mine)
            theirs = submit(api, {"from_batch": given["id"]}, **mine)

        assert (batch["tenant"], given["tenant"]) == ("mine", "other")
        assert (refused.status_code, theirs.status_code) == (403, 404)

    def test_the_same_key_of_two_tenants_is_two_batches(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url) as api:
            batches = [
                submit(api, {"inputs": ["a"]}, **key_headers(database, tenant), **{"idempotency-key": "monday"})
                for tenant in ("mine", "other")
            ]

        assert [response.status_code for response in batches] == [201, 201]

    def test_a_query_is_for_the_tenants_that_it_names(self, database: Database, database_url: str) -> None:
        source = {"url": database_url, "query": "SELECT id AS text FROM batches"}
        sources = {"closed": source, "open": {**source, "tenants": ["mine"]}, "all": {**source, "tenants": ["*"]}}
        with client_over(database, database_url, sources=sources) as api:
            mine = key_headers(database, "mine")
            status = {
                name: api.post("/api/batches?wait=0", json={"pipeline": PIPELINE, "sql": name}, headers=mine)
                for name in sources
            }

        assert {name: response.status_code for name, response in status.items()} == {
            "closed": 400,
            "open": 202,
            "all": 202,
        }
        assert "there are: all, open;" in status["closed"].json()["error"]["message"]


class TestDryRun:
    def test_it_reports_and_writes_nothing(self, api: TestClient, database: Database) -> None:
        report = api.post("/api/dry-run", json={"pipeline": PIPELINE, "inputs": ["a", 7]}).json()
        lines = api.post("/api/dry-run", params={"pipeline": PIPELINE}, content=b'"a"\n"b"\n', headers=LINES).json()

        assert (report["object"], report["rows"], report["jobs"], report["invalid_rows"]) == ("dry_run", 2, 1, 1)
        assert len(report["problems"]) == 1
        assert lines["jobs"] == 2
        assert count_rows(database, "batches") == 0

    def test_it_reads_the_start_of_an_uploaded_file(self, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file_trial, "MAX_ROWS", 100)
        monkeypatch.setattr(preview, "MAX_ROWS", 100)
        form = {"file": ("a.jsonl", b'"a fine day"\n' * 300)}
        file_id = api.post("/v1/files", data={"purpose": "batch"}, files=form).json()["id"]

        report = api.post("/api/dry-run", json={"pipeline": PIPELINE, "file_id": file_id}).json()
        unknown = api.post("/api/dry-run", json={"pipeline": PIPELINE, "file_id": "file-x"})

        assert (report["rows"], report["file_rows"], report["is_sample"]) == (100, 300, True)
        assert unknown.status_code == 404

    def test_it_needs_a_sample(self, api: TestClient) -> None:
        response = api.post("/api/dry-run", json={"pipeline": PIPELINE, "sql": "x"})

        assert response.status_code == 400

    @pytest.mark.parametrize(
        ("limit", "value", "message"), [("MAX_BYTES", 1000, "unpacked rows"), ("MAX_SECONDS", -1.0, "seconds to check")]
    )
    def test_a_body_that_unpacks_to_many_rows_is_refused(
        self, api: TestClient, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, message: str
    ) -> None:
        monkeypatch.setattr(sample_check, limit, value)
        bomb = gzip.compress(b'"a"\n' * 1000, mtime=0)

        response = api.post("/api/dry-run", params={"pipeline": PIPELINE}, content=bomb, headers=LINES)

        assert response.status_code == 413
        assert message in response.json()["error"]["message"]


class TestPrivacy:
    def test_no_input_reaches_a_log_or_an_error(
        self, api: TestClient, database: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        canary = "canary-4711"
        batch_id = submit(api, {"inputs": [canary, {"text": canary}]}).json()["id"]
        fake_worker.write_results(database, batch_id, [(0, "model_error"), (1, "model_error")])
        fake_worker.end_batch(database, batch_id)
        refused = [
            submit(api, {"inputs": canary}),
            submit(api, {"inputs": [{"texte": canary}, [canary], 7]}),
            submit(api, {"inputs": ["a"], "priority": canary}),
            submit(api, {"inputs": ["a"], "metadata": {"a": [canary]}}),
            api.post("/api/batches", content=f'"{canary}"', headers={"content-type": "application/json"}),
            submit_body(api, f'{{"texte": "{canary}"}}\n{canary}\n'.encode()),
            submit_body(api, f"a\n{canary}\n".encode(), "text/csv"),
            submit_body(api, canary.encode(), "application/vnd.apache.parquet"),
            api.post(f"/api/batches/{batch_id}/repair", json={"inputs": [{"position": 7, "text": canary}]}),
            api.post(f"/api/batches/{batch_id}/repair", json={"inputs": canary}),
            api.post("/api/dry-run", json={"pipeline": PIPELINE, "inputs": canary}),
        ]

        assert [response.status_code for response in refused] == [400] * len(refused)
        assert [response.text for response in refused if canary in response.text] == []
        assert canary not in "".join(capsys.readouterr())


def test_a_table_without_a_header_is_noticed(api: TestClient) -> None:
    params = {"pipeline": "sample-sentiment-analysis", "input_columns": '{"text": "good as it is"}', "use_ids": "false"}
    body, headers = b"17,good as it is,4.5\n23,bad,1.0\n", {"content-type": "text/csv"}

    trial = api.post("/api/dry-run", params=params, content=body, headers=headers)
    submitted = api.post("/api/batches", params=params, content=body, headers=headers)

    [doubt] = trial.json()["doubts"]
    assert doubt.startswith("the body: the first line is taken as the names of the columns: '17'")
    assert submitted.json()["warning"].startswith(doubt)


class TestColumnNames:
    """Names for the columns of a table without a header, which every kind of request takes."""

    CONTENT = b"17,good as it is\n23,bad\n"
    OPTIONS: ClassVar = {"pipeline": "sample-sentiment-analysis", "column_names": "id,text"}

    def test_a_body_has_them(self, api: TestClient, database: Database) -> None:
        headers = {"content-type": "text/csv"}
        as_json = {**self.OPTIONS, "column_names": '["id", "text"]'}

        trial = api.post("/api/dry-run", params=self.OPTIONS, content=self.CONTENT, headers=headers)
        batches = [
            api.post("/api/batches", params=params, content=self.CONTENT, headers=headers)
            for params in (self.OPTIONS, as_json)
        ]
        form = api.post("/api/batches", data=self.OPTIONS, files={"file": ("a.csv", self.CONTENT)})

        assert (trial.json()["rows"], trial.json()["column_names"], trial.json()["doubts"]) == (2, ["id", "text"], [])
        for response in (*batches, form):
            assert response.status_code == 201, response.text
            assert response.json()["request_counts"]["total"] == 2
            assert "the first line" not in str(response.json()["warning"])

    def test_an_uploaded_file_has_them(self, api: TestClient) -> None:
        file = api.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a.csv", self.CONTENT)}).json()
        body = {"pipeline": "sample-sentiment-analysis", "file_id": file["id"], "file_format": "csv"}

        trial = api.post("/api/dry-run", json={**body, "column_names": ["id", "text"]})
        batch = api.post("/api/batches", json={**body, "column_names": ["id", "text"]})

        assert (trial.json()["rows"], trial.json()["column_names"]) == (2, ["id", "text"])
        assert (batch.status_code, batch.json()["request_counts"]["total"]) == (201, 2)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"inputs": ["a"]}, "column names are for CSV and TSV"),
            ({"from_batch": "batch_a"}, "column names are for CSV and TSV files"),
            ({"inputs": ["a"], "column_names": []}, "column_names has no name"),
            ({"inputs": ["a"], "column_names": "text,text"}, "the column name 'text' is given twice"),
        ],
    )
    def test_names_out_of_place_are_refused(self, api: TestClient, body: dict[str, Any], message: str) -> None:
        response = api.post("/api/batches", json={**self.OPTIONS, **body})

        assert (response.status_code, response.json()["error"]["param"]) == (400, "column_names")
        assert response.json()["error"]["message"].startswith(message)

    def test_their_number_must_fit(self, api: TestClient) -> None:
        params = {**self.OPTIONS, "column_names": "text"}

        response = api.post("/api/batches", params=params, content=self.CONTENT, headers={"content-type": "text/csv"})

        assert response.json()["error"]["param"] == "column_names"
        assert "the body has 2 cells in line 1, and 1 column name (text)" in response.json()["error"]["message"]

    def test_a_header_that_looks_like_data_leads_to_them(self, api: TestClient) -> None:
        params = {"pipeline": "sample-sentiment-analysis"}

        response = api.post("/api/batches", params=params, content=self.CONTENT, headers={"content-type": "text/csv"})

        message = response.json()["error"]["message"]
        assert message.endswith('if it is data, name the columns: "column_names": ["NAME", "NAME"]')
