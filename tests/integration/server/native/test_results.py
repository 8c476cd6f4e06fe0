"""Results over HTTP: pages by a cursor, and files that equal those of the command line."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.errors import UsageError
from models.vectors import from_numbers
from producer.batches import views
from producer.results import export, files, pages
from producer.server.native.batches import objects
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import client_over, key_headers

GOOD = {"label": "=POSITIVE", "score": 0.5}


async def raw_messages(app: Any, path: str, query: bytes) -> list[dict[str, Any]]:
    """Call an application without a client, and return the messages that it sends."""
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": [], "scheme": "http"}
    await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.4"}}, receive, send)
    return messages


@pytest.fixture
def batch_id(database: Database) -> str:
    """Insert a completed batch: two successes, which landed out of order, and two failures."""
    batch_id = insert_batch(database, 4)
    execute(database, """UPDATE jobs SET passthrough = '{"région": "ÜÄ\\u2028"}' WHERE position < 2""")
    fake_worker.write_results(database, batch_id, [(2, GOOD), (0, "model_error"), (1, GOOD), (3, "forward_timeout")])
    fake_worker.end_batch(database, batch_id)
    return batch_id


class TestPages:
    def test_a_cursor_reads_them_as_they_landed(self, api: TestClient, database: Database, batch_id: str) -> None:
        path, rows, after, has_more = f"/api/batches/{batch_id}/results", [], 0, True
        while has_more:
            page = api.get(path, params={"after": after, "limit": 3}).json()
            objects.ResultPage.model_validate(page)
            rows += page["data"]
            after, has_more = page["next_after"], page["has_more"]

        assert rows == [row.as_dict() for row in pages.iter_results(database, batch_id)]
        assert set(rows[0]) == set(objects.Result.model_fields)
        assert api.get(path, params={"after": after}).json() == {
            "object": "list",
            "data": [],
            "has_more": False,
            "next_after": 4,
        }

    def test_the_status_chooses(self, api: TestClient, batch_id: str) -> None:
        path = f"/api/batches/{batch_id}/results"

        failed = api.get(path, params={"status": ["failed", "expired"]}).json()["data"]

        assert [row["position"] for row in failed] == [0, 3]
        assert api.get(path, params={"status": "completed"}).status_code == 400

    def test_one_result(self, api: TestClient, batch_id: str) -> None:
        row = api.get(f"/api/batches/{batch_id}/results/1").json()

        assert (row["position"], row["output"], row["passthrough"]) == (1, GOOD, {"région": "ÜÄ\u2028"})
        assert api.get(f"/api/batches/{batch_id}/results/4").status_code == 404
        assert api.get(f"/api/batches/{batch_id}/results/-1").status_code == 400

    def test_errors_by_code_with_their_counts(self, api: TestClient, batch_id: str) -> None:
        path = f"/api/batches/{batch_id}/errors"
        first = api.get(path, params={"limit": 1}).json()
        second = api.get(path, params={"limit": 1, "after": first["next_after"]}).json()

        objects.ErrorPage.model_validate(first)
        assert [page["data"][0]["position"] for page in (first, second)] == [0, 3]
        assert (first["has_more"], second["has_more"]) == (True, False)
        assert [row["position"] for row in api.get(path, params={"code": "model_error"}).json()["data"]] == [0]
        assert api.get(f"{path}/counts").json()["data"] == [
            {"code": "forward_timeout", "jobs": 1},
            {"code": "model_error", "jobs": 1},
        ]


class TestFiles:
    @pytest.mark.parametrize(("file_format", "suffix"), [("ndjson", "jsonl"), ("csv", "csv"), ("parquet", "parquet")])
    def test_a_file_is_that_of_the_command_line(
        self, api: TestClient, database: Database, batch_id: str, tmp_path: Path, file_format: str, suffix: str
    ) -> None:
        path = tmp_path / f"results.{suffix}"
        export.export_file(
            database, views.get_batch(database, batch_id), pages.iter_by_position(database, batch_id), path
        )

        response = api.get(f"/api/batches/{batch_id}/results", params={"format": file_format})

        assert response.status_code == 200
        assert response.headers["content-disposition"] == f'attachment; filename="{batch_id}.{suffix}"'
        assert response.headers["x-content-type-options"] == "nosniff"
        if suffix == "jsonl":
            rows = [json.loads(line) for line in response.text.splitlines()]  # which also ends lines at U+2028
            assert rows == [json.loads(line) for line in path.read_text().split("\n")[:-1]]
        else:
            assert response.content == path.read_bytes()

    def test_small_blocks_make_the_same_file(
        self, api: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = [api.get(f"/api/batches/{batch_id}/results?format={name}").content for name in ("ndjson", "csv")]
        monkeypatch.setattr(files, "BLOCK_LENGTH", 1)
        monkeypatch.setattr(pages, "PAGE_ROWS", 1)

        parts = [api.get(f"/api/batches/{batch_id}/results?format={name}").content for name in ("ndjson", "csv")]

        assert parts == whole

    def test_parquet_in_several_row_groups(
        self, api: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
        from producer.results.formats import parquet

        monkeypatch.setattr(parquet, "GROUP_ROWS", 1)

        response = api.get(f"/api/batches/{batch_id}/results?format=parquet")

        file = pyarrow_parquet.ParquetFile(io.BytesIO(response.content))
        assert (file.num_row_groups, file.read().column("position").to_pylist()) == (4, [0, 1, 2, 3])

    @pytest.mark.parametrize(
        ("accept", "media_type"),
        [
            ("application/x-ndjson", "application/x-ndjson"),
            ("application/jsonl", "application/x-ndjson"),
            ("text/html, text/csv;q=0.9", "text/csv; charset=utf-8"),
            ("text/csv;q=0.9, application/json", "application/json"),
            ("*/*, text/csv;q=0.5", "application/json"),
            ("text/csv, */*;q=0.1", "text/csv; charset=utf-8"),
            ("*/*", "application/json"),
            ("image/png", "application/json"),
        ],
    )
    def test_the_accept_header_chooses(self, api: TestClient, batch_id: str, accept: str, media_type: str) -> None:
        response = api.get(f"/api/batches/{batch_id}/results", headers={"accept": accept})

        assert response.headers["content-type"] == media_type

    def test_order_limit_and_cursor_of_lines(self, api: TestClient, batch_id: str) -> None:
        path = f"/api/batches/{batch_id}/results?format=ndjson"

        def positions(query: str) -> list[int]:
            return [row["position"] for row in map(json.loads, api.get(path + query).text.splitlines())]

        assert positions("&order=seq") == [2, 0, 1, 3]
        assert positions("&order=seq&limit=1&after=1") == [0]
        assert positions("&limit=2") == [0, 1]
        assert positions("&after=2") == [1, 3]

    def test_vectors_are_a_matrix(self, api: TestClient, database: Database, tmp_path: Path) -> None:
        batch_id = insert_batch(database, 3, task="feature-extraction")
        fake_worker.write_results(database, batch_id, [(2, from_numbers([1.0, 2.0])), (0, from_numbers([0.5, 0.25]))])
        path = tmp_path / "matrix.npy"
        batch = views.get_batch(database, batch_id)
        export.export_file(database, batch, pages.iter_by_position(database, batch_id), path)

        response = api.get(f"/api/batches/{batch_id}/results", params={"format": "npy"})

        assert response.content == path.read_bytes()
        assert api.get(f"/api/batches/{batch_id}/results?format=npy&after=1").status_code == 400

    def test_what_can_not_be_a_file_is_refused_before_it_begins(self, api: TestClient, batch_id: str) -> None:
        for path in ("results?format=npy", "errors?format=npy", "errors?format=csv&after=1", "results?limit=1001"):
            response = api.get(f"/api/batches/{batch_id}/{path}")

            assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")

    def test_a_row_that_does_not_fit_ends_the_response_early(
        self, api: TestClient, database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> object:
            yield b"a block"
            raise UsageError("the row at position 7 does not fit")

        monkeypatch.setattr(export, "open_export", broken)

        messages = asyncio.run(raw_messages(api.app, f"/api/batches/{batch_id}/results", b"format=csv"))

        assert [(message.get("status"), message.get("body"), message.get("more_body")) for message in messages] == [
            (200, None, None),
            (None, b"a block", True),
        ]


class TestTenants:
    def test_a_tenant_sees_the_last_part_of_a_models_folder(self, database: Database, database_url: str) -> None:
        batch_id = insert_batch(database, 2, tenant="acme")
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "model_error")])
        fake_worker.end_batch(database, batch_id)
        execute(database, "UPDATE model_versions SET model = '/srv/secret/bert', adapter = '/srv/secret/lora'")
        views = ("results", "results?format=ndjson", "results?format=csv&order=seq", "results/0", "follow")
        views += ("follow?format=ndjson", "errors", "errors?format=ndjson", "errors?format=csv")

        with client_over(database, database_url) as client:
            read = {
                tenant: [client.get(f"/api/batches/{batch_id}/{view}", headers=headers) for view in views]
                for tenant, headers in [(tenant, key_headers(database, tenant)) for tenant in ("acme", None)]
            }

        for of_tenant, of_operator in zip(read["acme"], read[None], strict=True):
            assert (of_tenant.status_code, of_operator.status_code) == (200, 200)
            assert "/srv/secret" not in of_tenant.text
            assert of_operator.text.count("/srv/secret/bert") == of_tenant.text.count("bert") > 0
            assert of_tenant.text.count("lora") == of_operator.text.count("/srv/secret/lora")
