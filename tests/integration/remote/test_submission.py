"""Submissions over HTTP: what is sent, what is sent again, and what is refused."""

import gzip
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx2
import polars
import pytest
from sqlalchemy import text

from batchmill import Client, InvalidRows, NotFound, Unauthorized, UnknownPipeline, UnreadableSource, UsageError
from models.db import Database
from models.dialects.columns import Document
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.remote.address import ServerAddress
from producer.remote.connection import RemoteConnection
from producer.remote.http import ServerHttp
from producer.uploads.intake import immediate_reading
from producer.uploads.intake.intake import Intake
from tests import fake_worker
from tests.factories import served_app
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import key_headers

PIPELINE = "sample-sentiment-analysis"
GOOD = {"label": "POSITIVE", "score": 0.5}


@pytest.fixture
def address(sqlite_url: str) -> Iterator[str]:
    database = Database(sqlite_url)
    with served_app.served(database) as url:
        yield url
    database.close()


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def jobs(database: Database) -> list[tuple[str | None, str, Any]]:
    """The custom_id, the text and the kept columns of each job."""
    query = text("SELECT custom_id, input, passthrough FROM jobs ORDER BY batch_id, position")
    query = query.columns(input=Document, passthrough=Document)  # type: ignore[assignment]
    with database.read() as connection:
        return [(row.custom_id, row.input["text"], row.passthrough) for row in connection.execute(query)]


class LosingTransport(httpx2.BaseTransport):
    """Sends each request, and loses the answers to some of them."""

    def __init__(self, loses: Callable[[httpx2.Request], bool]) -> None:
        self._loses = loses
        self._inner = httpx2.HTTPTransport()
        self.sent: list[str] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(f"{request.method} {request.url.path}")
        response = self._inner.handle_request(request)
        if self._loses(request):
            response.read()
            response.close()
            raise httpx2.ReadError("lost")
        return response

    def close(self) -> None:
        self._inner.close()


class TestInputs:
    def test_a_generator_is_read_once(self, client: Client, database: Database) -> None:
        client.submit(PIPELINE, (f"text {number}" for number in range(3)))

        assert [row[1] for row in jobs(database)] == ["text 0", "text 1", "text 2"]

    @pytest.mark.parametrize("inputs", [["a", {"text": "b", "id": "own"}], polars.Series(["a", "b"])])
    def test_ids_are_those_that_are_given(self, client: Client, database: Database, inputs: Any) -> None:
        client.submit(PIPELINE, inputs, ids=[7, None])

        assert [row[:2] for row in jobs(database)] == [("7", "a"), (None, "b")]

    def test_ids_stand_beside_kept_columns(self, client: Client, database: Database) -> None:
        client.submit(PIPELINE, [{"text": "a", "id": "own", "day": 1}], ids=["x"], passthrough="*")

        assert jobs(database) == [("x", "a", {"id": "own", "day": 1})]

    def test_a_frame_has_its_columns(self, client: Client, database: Database) -> None:
        frame = polars.DataFrame({"key": [1, 2], "body": ["a", "b"], "region": ["EU", None]})
        columns = {"input_columns": {"text": "body"}, "id_column": "key", "passthrough": ["region"]}

        client.submit(PIPELINE, frame, **columns)  # type: ignore[arg-type]

        assert jobs(database) == [("1", "a", {"region": "EU"}), ("2", "b", {"region": None})]

    def test_options_stand_in_a_form(self, client: Client, database: Database) -> None:
        metadata = {f"key {number}": "€" * 500 for number in range(16)}

        batch = client.submit(PIPELINE, ["a"], metadata=metadata, name="long", priority=3, max_failures="2.5%")

        assert (batch.view.metadata, batch.view.name, batch.view.priority) == (metadata, "long", 3)

    @pytest.mark.parametrize("on_invalid", ["reject", "fail-row"])
    def test_an_item_that_json_can_not_hold_is_invalid(self, client: Client, on_invalid: str) -> None:
        looped: list[Any] = []
        looped.append(looped)

        if on_invalid == "reject":
            with pytest.raises(InvalidRows, match="item 2"):
                client.submit(PIPELINE, ["a", looped])
        else:
            batch = client.submit(PIPELINE, ["a", looped], on_invalid=on_invalid)
            assert batch.request_counts.failed == 1

    @pytest.mark.parametrize(
        ("item", "problem"),
        [
            ({"x": b"1"}, "item 2: x holds bytes, which JSON has not; keep other columns"),
            ({"x": [timedelta(1)]}, "item 2: x holds timedelta, which JSON has not; keep other columns"),
            ({"x": float("nan")}, "item 2: has a value in x that JSON can't hold; keep other columns"),
            ({"x": {5: 1}}, "item 2: x has a key that is not text; keep other columns"),
            ({None: "x"}, "item 2: has a column to keep whose name is not storable text; rename it"),
            ({"text": date(2026, 1, 1)}, "item 2: text must be text, not date"),
        ],
    )
    def test_a_value_that_json_has_not_is_refused_and_not_lost(
        self, client: Client, item: dict[Any, Any], problem: str
    ) -> None:
        with pytest.raises(InvalidRows) as error:
            client.submit(PIPELINE, ["a", {"text": "b", **item}], passthrough="*")
        batch = client.submit(PIPELINE, ["a", {"text": "b", **item}], passthrough="*", on_invalid="fail-row")

        assert error.value.problems == (problem,)
        assert batch.request_counts.failed == 1

    def test_a_value_in_a_column_that_is_not_kept_may_be_any(self, client: Client, database: Database) -> None:
        client.submit(PIPELINE, [{"text": "a", "x": b"1", 5: float("nan")}])

        assert jobs(database) == [(None, "a", None)]

    @pytest.mark.parametrize("on_invalid", ["reject", "fail-row"])
    def test_a_table_needs_its_columns(self, client: Client, on_invalid: str) -> None:
        frame = polars.DataFrame({"body": ["a"], "day": [1]})

        with pytest.raises(UnreadableSource, match="no column 'text'"):
            client.submit(PIPELINE, frame, on_invalid=on_invalid)

        assert client.batches() == []

    def test_inputs_and_ids_must_match(self, client: Client) -> None:
        with pytest.raises(UsageError, match="differ in number: one of them ends before item 2"):
            client.submit(PIPELINE, ["a", "b"], ids=[1])

        assert client.batches() == []


class TestFiles:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("a.jsonl").write_text('{"id": 1, "body": "first"}\n{"id": 2, "body": "second"}\n')
        Path("b.csv").write_text("id,body\n3,third\n")
        Path("c.jsonl.gz").write_bytes(gzip.compress(b'{"id": 4, "body": "fourth"}\n'))

    @pytest.mark.parametrize(
        ("files", "ids"),
        [
            ("a.jsonl", ["1", "2"]),
            (Path("b.csv"), ["3"]),
            ("c.jsonl.gz", ["4"]),
            (["a.jsonl", "b.csv"], ["1", "2", "3"]),
            ("*.jsonl*", ["1", "2", "4"]),
        ],
    )
    def test_they_are_sent(self, client: Client, database: Database, files: Any, ids: list[str]) -> None:
        client.submit(PIPELINE, files=files, input_columns={"text": "body"})

        assert [row[0] for row in jobs(database)] == ids

    def test_wrong_rows_are_named(self, client: Client) -> None:
        with pytest.raises(InvalidRows, match="line 1: has no 'text'"):
            client.submit(PIPELINE, files="a.jsonl")
        with pytest.raises(UsageError, match=r"there is no file none\.csv"):
            client.submit(PIPELINE, files="none.csv")

    @pytest.mark.parametrize("on_invalid", ["reject", "fail-row"])
    def test_each_of_several_tables_needs_its_columns(self, client: Client, on_invalid: str) -> None:
        with pytest.raises(UnreadableSource, match=r"b\.csv has no column 'text'"):
            client.submit(PIPELINE, files=["a.jsonl", "b.csv"], on_invalid=on_invalid)

    def test_wrong_rows_of_several_files_are_named(self, client: Client) -> None:
        Path("d.jsonl").write_text('{"body": "first"}\n\n{"body": ""}\n')

        with pytest.raises(InvalidRows) as error:
            client.submit(PIPELINE, files=["b.csv", "d.jsonl"], input_columns={"text": "body"})

        assert [problem.partition(": ")[0] for problem in error.value.problems] == ["d.jsonl, line 3"]

    def test_an_id_that_two_rows_have_names_both(self, client: Client) -> None:
        Path("d.csv").write_text("id,body\n2,again\n")

        with pytest.raises(InvalidRows) as of_files:
            client.submit(PIPELINE, files=["b.csv", "a.jsonl", "d.csv"], input_columns={"text": "body"})
        with pytest.raises(InvalidRows) as of_items:
            client.submit(PIPELINE, ["a", "b", "c"], ids=["x", "y", "x"])

        assert of_files.value.problems == ("d.csv, line 2: has custom_id '2', which a.jsonl, line 2 has already",)
        assert of_items.value.problems == ("item 3: has custom_id 'x', which item 1 has already",)

    def test_a_large_file_that_is_refused_leaves_nothing(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, database: Database
    ) -> None:
        monkeypatch.setattr(immediate_reading, "MAX_IMMEDIATE_BYTES", 10)
        Path("a.jsonl").write_text('{"text": "first"}\n{"text": ""}\n')

        settings = Settings(database_url=database.url)
        intake = Intake(database, settings, Catalogue.load(settings))

        def read_soon() -> None:
            while not (waiting := intake.waiting_batches()):
                time.sleep(0.05)
            intake.take_in(waiting[0].id)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(read_soon)
            with pytest.raises(InvalidRows, match="line 2: text is empty") as error:
                client.submit(PIPELINE, files="a.jsonl", idempotency_key="k")

        assert error.value.problems[0].startswith("line 2: ")
        assert client.batches() == []
        assert not client.submit(PIPELINE, ["mended"], idempotency_key="k").already_submitted


class TestRepeats:
    def test_a_lost_answer_makes_no_second_batch(self, address: str, database: Database) -> None:
        losses = iter([True, True])
        transport = LosingTransport(lambda request: request.method == "POST" and next(losses, False))
        http = ServerHttp(ServerAddress(address), transport=transport)
        client = Client(address)
        connection = RemoteConnection(ServerAddress(address))
        connection.__dict__["_http"] = http
        client.__dict__["_connection"] = connection

        batch = client.submit(PIPELINE, iter(["a", "b"]))

        assert transport.sent[:3] == ["POST /api/batches"] * 3
        assert [listed.id for listed in client.batches()] == [batch.id]
        assert len(jobs(database)) == 2
        assert not batch.already_submitted
        client.close()

    @pytest.mark.parametrize("key", ["", "day 1\n", "\u043a\u043b\u044e\u0447", "k" * 256, 5])
    def test_a_key_that_no_header_holds_is_refused(self, client: Client, key: Any) -> None:
        with pytest.raises(UsageError, match="idempotency key"):
            client.submit(PIPELINE, ["a"], idempotency_key=key)

    @pytest.mark.parametrize(
        "options", [{"name": "\ud800"}, {"metadata": {"a": "\ud800"}}, {"parameters": {"top_k": "\ud800"}}]
    )
    def test_half_a_surrogate_pair_is_refused(self, client: Client, options: Any) -> None:
        with pytest.raises(UsageError, match="half a surrogate pair"):
            client.submit(PIPELINE, ["a"], **options)

    def test_a_key_is_the_same_batch_again(self, client: Client) -> None:
        first = client.submit(PIPELINE, ["a"], idempotency_key="k")

        again = client.submit(PIPELINE, ["a"], idempotency_key="k")

        assert (again.id, first.already_submitted, again.already_submitted) == (first.id, False, True)
        with pytest.raises(UsageError) as error:
            client.submit(PIPELINE, ["b"], idempotency_key="k")
        assert (error.value.code, error.value.param) == ("idempotency_conflict", "idempotency-key")

    def test_an_error_about_no_field_names_none(self, client: Client) -> None:
        with pytest.raises(NotFound) as error:
            client.batch("batch_none")

        assert error.value.param is None

    def test_a_retry_whose_answer_is_lost_is_not_sent_again(self, address: str, database: Database) -> None:
        batch_id = insert_batch(database, 2)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "model_error")])
        fake_worker.end_batch(database, batch_id)
        transport = LosingTransport(lambda request: request.url.path.endswith("/retry"))
        connection = RemoteConnection(ServerAddress(address))
        connection.__dict__["_http"] = ServerHttp(ServerAddress(address), transport=transport)
        client = Client(address)
        client.__dict__["_connection"] = connection

        batch = client.batch(batch_id).retry()

        assert (batch.status, batch.request_counts.unanswered) == ("in_progress", 1)
        assert sum(line.endswith("/retry") for line in transport.sent) == 1
        client.close()

    def test_a_retry_has_run_although_its_jobs_end_before_anybody_looks(self, address: str, database: Database) -> None:
        batch_id = insert_batch(database, 2)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "model_error")])
        fake_worker.end_batch(database, batch_id)

        def loses(request: httpx2.Request) -> bool:
            is_retry = request.url.path.endswith("/retry")
            if is_retry:
                fake_worker.write_results(database, batch_id, [(1, "model_error")])
                fake_worker.end_batch(database, batch_id)
            return is_retry

        connection = RemoteConnection(ServerAddress(address))
        connection.__dict__["_http"] = ServerHttp(ServerAddress(address), transport=LosingTransport(loses))
        client = Client(address)
        client.__dict__["_connection"] = connection

        batch = client.batch(batch_id).retry()

        assert (batch.status, batch.request_counts.failed) == ("completed", 1)
        client.close()


def test_results_are_followed_over_a_lost_connection(
    address: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = insert_batch(database, 4)
    fake_worker.write_results(database, batch_id, [(0, GOOD), (1, GOOD)])
    with Client(address) as client:
        rows = client.batch(batch_id).follow()
        seen = [next(rows).seq, next(rows).seq]
        client._connection._http._client.close()  # type: ignore[union-attr]
        client._connection._http._client = httpx2.Client()  # type: ignore[union-attr]
        fake_worker.write_results(database, batch_id, [(2, GOOD), (3, "model_error")])
        fake_worker.end_batch(database, batch_id)

        seen += [row.seq for row in rows]

    assert seen == [1, 2, 3, 4]


def test_a_key_names_the_tenant(address: str, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    keys = {tenant: key_headers(database, tenant)["authorization"].split()[1] for tenant in ("red", "blue")}
    with Client(address, api_key=keys["red"]) as red, Client(address, api_key=keys["blue"]) as blue:
        batch = red.submit(PIPELINE, ["a"])

        assert batch.view.tenant == "red"
        assert blue.batches() == []
        with pytest.raises(UsageError, match="says whose batches"):
            blue.batches(tenant="red")
    with Client(address, api_key="bm_canary") as nobody, pytest.raises(Unauthorized) as error:
        nobody.batches()
    assert "bm_canary" not in f"{error.value}{caplog.text}"


def test_errors_of_the_server_are_those_of_sql(client: Client) -> None:
    with pytest.raises(UnknownPipeline, match="there is no pipeline 'nope'"):
        client.submit("nope", ["a"])
    with pytest.raises(UsageError, match="settings"):
        _ = client.settings
    with pytest.raises(UsageError, match="passed"):
        client.submit(PIPELINE, ["a"], deadline="2020-01-01")


def test_tables_without_a_header_have_the_names_that_are_given(
    client: Client, database: Database, tmp_path: Path
) -> None:
    for name, content in (("a.csv", "17,good\n"), ("b.csv", "23,bad\n")):
        (tmp_path / name).write_text(content)

    client.submit(PIPELINE, files=tmp_path / "a.csv", column_names="id,text")
    client.submit(PIPELINE, files=str(tmp_path / "*.csv"), column_names=["id", "text"])
    with pytest.raises(UnreadableSource, match=r"has 2 cells in line 1, and 1 column name \(text\)"):
        client.submit(PIPELINE, files=tmp_path / "a.csv", column_names=["text"])
    with pytest.raises(UsageError, match="column names are for CSV and TSV files"):
        client.submit(PIPELINE, ["a"], column_names=["text"])

    assert sorted(jobs(database)) == [("17", "good", None), ("17", "good", None), ("23", "bad", None)]
