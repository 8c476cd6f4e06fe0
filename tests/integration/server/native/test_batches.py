"""Batches over HTTP: what the command line shows and does, and only to the tenant that they belong to."""

import gzip
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.batches import views
from producer.batches.actions import retry
from producer.batches.actions.retry import RetryResult
from producer.server.native.batches import changes, long_acts, objects
from producer.server.native.batches.long_acts import ActPermits
from producer.tenants.principal import Scope
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import client_over, key_headers
from tests.servers import wait_until

GOOD = {"label": "POSITIVE", "score": 0.5}


def get(client: TestClient, path: str, **params: Any) -> Any:
    response = client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def ended_batch(database: Database) -> str:
    """Insert a completed batch with two successes and two failures."""
    batch_id = insert_batch(database, 4)
    fake_worker.write_results(database, batch_id, [(2, GOOD), (0, "model_error"), (1, GOOD), (3, "forward_timeout")])
    fake_worker.end_batch(database, batch_id)
    return batch_id


class TestReading:
    def test_a_batch_is_shown_as_the_command_line_shows_it(self, api: TestClient, database: Database) -> None:
        batch_id = ended_batch(database)

        shown = get(api, f"/api/batches/{batch_id}")

        assert shown == views.get_batch(database, batch_id).as_dict()
        assert set(shown) == set(objects.Batch.model_fields)
        objects.Batch.model_validate(shown)

    def test_an_etag_spares_a_batch_that_is_known(self, api: TestClient, database: Database) -> None:
        path = f"/api/batches/{ended_batch(database)}"
        etag = api.get(path).headers["etag"]

        known = api.get(path, headers={"if-none-match": f'"other", W/{etag}'})
        other = api.get(path, headers={"if-none-match": '"other"'})
        any_known = api.get(path, headers={"if-none-match": "*"})

        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
        assert (other.status_code, other.headers["etag"]) == (200, etag)
        assert any_known.status_code == 304

    def test_the_list_has_pages_and_filters(self, api: TestClient, database: Database) -> None:
        ids = [insert_batch(database, 1, name=f"n{number}") for number in range(3)]
        fake_worker.end_batch(database, ids[0])

        first = get(api, "/api/batches", limit=2)
        second = get(api, "/api/batches", limit=2, after=first["last_id"])

        objects.BatchList.model_validate(first)
        assert [batch["id"] for batch in first["data"]] == [ids[2], ids[1]]
        assert ([batch["id"] for batch in second["data"]], second["has_more"]) == ([ids[0]], False)
        assert first["has_more"]
        assert [batch["id"] for batch in get(api, "/api/batches", status="completed")["data"]] == [ids[0]]
        assert [batch["id"] for batch in get(api, "/api/batches", name="n1")["data"]] == [ids[1]]
        assert get(api, "/api/batches", pipeline="other")["data"] == []
        assert get(api, "/api/batches", since="2019-01-01", until="2019-12-31")["data"] == []

    def test_blockers_and_attempts(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, [{"text": "a"}])
        execute(database, "UPDATE jobs SET custom_id = 'mine'")

        [blocker] = get(api, f"/api/batches/{batch_id}/blockers")["data"]
        fake_worker.write_results(database, batch_id, [(0, "model_error")])
        [attempt] = get(api, f"/api/batches/{batch_id}/attempts", custom_id="mine")["data"]

        assert blocker["code"] == "no_worker"
        assert (attempt["object"], attempt["error_code"]) == ("result", "model_error")
        assert set(attempt) == set(objects.Attempt.model_fields)
        assert get(api, f"/api/batches/{batch_id}/attempts")["data"] == []
        assert api.get(f"/api/batches/{batch_id}/attempts", params={"position": 7}).status_code == 404

    @pytest.mark.parametrize("query", ["limit=0", "limit=5000", "status=running", "since=yesterday", "after=%00"])
    def test_a_wrong_parameter_is_refused(self, api: TestClient, query: str) -> None:
        response = api.get(f"/api/batches?{query}")

        assert response.status_code in (400, 404)
        assert response.json()["error"]["message"]


class TestActs:
    def test_cancelling_keeps_results(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(0, GOOD)])

        first, second = (api.post(f"/api/batches/{batch_id}/cancel") for _ in range(2))

        assert (first.status_code, first.json()["status"]) == (200, "cancelled")
        assert first.json()["request_counts"]["cancelled"] == 2
        assert second.json() == first.json()

    def test_a_retry_takes_codes(self, api: TestClient, database: Database) -> None:
        batch_id = ended_batch(database)

        response = api.post(f"/api/batches/{batch_id}/retry", json={"codes": ["model_error"], "deadline": "6h"})

        assert response.status_code == 200, response.text
        document = response.json()
        objects.Requeued.model_validate(document)
        assert (document["requeued_jobs"], document["batch"]["request_counts"]["unanswered"]) == (1, 1)
        assert document["batch"]["expires_at"]
        assert "safe in SQL" in document["warning"]

    def test_a_retry_takes_single_jobs(self, api: TestClient, database: Database) -> None:
        batch_id = ended_batch(database)

        refused = api.post(f"/api/batches/{batch_id}/retry", json={"positions": [1, 2]})
        response = api.post(f"/api/batches/{batch_id}/retry", json={"positions": [3, 1]})

        assert refused.json()["error"]["message"].endswith(
            "no failed jobs at these positions that could be tried again"
        )
        assert (response.json()["requeued_jobs"], response.json()["advice"]) == (1, None)
        assert [row["position"] for row in get(api, f"/api/batches/{batch_id}/errors")["data"]] == [0]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"positions": [-1]}, "invalid_request"),
            ({"positions": [2**70]}, "invalid_request"),
            ({"positions": ["one"]}, "invalid_request"),
            ({"positions": [0] * 10_001}, "invalid_request"),
            ({"status": "succeeded"}, "invalid_request"),
            ({"status": "cancelled"}, "nothing_to_retry"),
            ({"codes": "modle_error"}, "invalid_request"),
            ({"deadline": "yesterday"}, "invalid_request"),
            ({"code": "model_error"}, "invalid_request"),
        ],
    )
    def test_a_retry_of_nothing_changes_nothing(
        self, api: TestClient, database: Database, body: dict[str, Any], code: str
    ) -> None:
        batch_id = ended_batch(database)

        response = api.post(f"/api/batches/{batch_id}/retry", json=body)

        assert (response.status_code, response.json()["error"]["code"]) == (400, code)
        assert views.get_batch(database, batch_id).status == "completed"

    @pytest.mark.parametrize("kind", ["json", "lines"])
    def test_a_repair_takes_json_and_lines(self, api: TestClient, database: Database, kind: str) -> None:
        path = f"/api/batches/{ended_batch(database)}"
        rows = get(api, f"{path}/errors", code="model_error")["data"]
        rows[0]["input"]["text"] = "corrected"

        if kind == "json":
            response = api.post(f"{path}/repair", json={"inputs": rows, "deadline": "6h"})
        else:
            lines = '{"position": 0, "text": "corrected"}\n'
            response = api.post(
                f"{path}/repair", params={"deadline": "6h"}, content=lines, headers={"content-type": "text/csv"}
            )
            assert response.status_code == 400
            headers = {"content-type": "application/x-ndjson"}
            response = api.post(f"{path}/repair", params={"deadline": "6h"}, content=lines, headers=headers)

        assert response.status_code == 200, response.text
        assert response.json()["requeued_jobs"] == 1
        assert response.json()["batch"]["expires_at"]

    def test_a_repair_of_other_rows_is_refused_whole(self, api: TestClient, database: Database) -> None:
        batch_id = ended_batch(database)
        rows = [{"position": 0, "text": "corrected"}, {"position": 1, "text": "not failed"}]

        response = api.post(f"/api/batches/{batch_id}/repair", json={"inputs": rows})

        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_rows")
        assert len(response.json()["error"]["problems"]) == 1
        assert views.get_batch(database, batch_id).status == "completed"

    def test_a_batch_is_deleted(self, api: TestClient, database: Database) -> None:
        running = insert_batch(database, 3)

        assert api.delete(f"/api/batches/{running}").status_code == 400
        response = api.delete(f"/api/batches/{running}?cancel=true")

        assert response.json() == {"id": running, "object": "batch.deleted", "deleted": True}
        assert api.delete(f"/api/batches/{running}").status_code == 404

    def test_a_long_act_is_answered_before_its_end(
        self, api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        goes_on, retry_jobs = Event(), retry.retry_jobs

        def retry_slowly(*args: Any) -> RetryResult:
            result = retry_jobs(*args)
            assert goes_on.wait(60)
            return result

        monkeypatch.setattr(long_acts, "MAX_WAIT_SECONDS", 0.0)
        monkeypatch.setattr(long_acts, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(retry, "retry_jobs", retry_slowly)
        batch_id = ended_batch(database)

        response = api.post(f"/api/batches/{batch_id}/retry")
        goes_on.set()

        assert (response.status_code, response.json()["id"]) == (202, batch_id)
        assert response.json()["status"] == "in_progress"
        wait_until(lambda: views.get_batch(database, batch_id).counts.failed == 0, "the retry goes on")

    def test_an_act_that_may_still_be_refused_is_not_answered_before_its_end(
        self, api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(long_acts, "MAX_WAIT_SECONDS", 0.0)
        monkeypatch.setattr(long_acts, "POLL_SECONDS", 0.01)
        path = f"/api/batches/{ended_batch(database)}"

        repair = api.post(f"{path}/repair", json={"inputs": [{"position": 1, "text": "not failed"}]})
        retried = api.post(f"{path}/retry", json={"status": "cancelled"})

        assert (repair.status_code, repair.json()["error"]["code"]) == (400, "invalid_rows")
        assert (retried.status_code, retried.json()["error"]["code"]) == (400, "nothing_to_retry")

    def test_too_many_acts_of_a_tenant_are_asked_to_come_again(
        self, api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        permits = ActPermits(3, 2)
        monkeypatch.setattr(long_acts, "CHANGES", permits)
        one, other = (key_headers(database, tenant) for tenant in ("one", "other"))
        for _ in range(2):
            permits.take("one")

        refused = api.post(f"/api/batches/{ended_batch(database)}/retry", headers=one)
        others = api.post(f"/api/batches/{insert_batch(database, 1, tenant='other')}/cancel", headers=other)
        permits.take("other")
        full = api.post(f"/api/batches/{ended_batch(database)}/retry", headers=other)

        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert (others.status_code, full.status_code) == (200, 429)

    def test_a_refused_repair_leaves_no_bytes_behind(
        self, api: TestClient, database: Database, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(long_acts, "REPAIRS", ActPermits(0, 0))
        batch_id = ended_batch(database)
        lines, headers = b'{"position": 0, "text": "better"}\n', {"content-type": "application/x-ndjson"}

        response = api.post(f"/api/batches/{batch_id}/repair", content=lines, headers=headers)

        assert response.status_code == 429
        assert [path for path in batchmill_home.rglob("*") if path.is_file() and len(path.name) == 32] == []

    def test_a_repair_has_few_bytes(self, api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(changes, "MAX_REPAIR_BYTES", 1_000)
        lines, headers = gzip.compress(b"\n" * 5_000), {"content-type": "application/x-ndjson"}

        response = api.post(f"/api/batches/{ended_batch(database)}/repair", content=lines, headers=headers)

        assert (response.status_code, response.json()["error"]["code"]) == (413, "source_too_large")


class TestTenants:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ""),
            ("GET", "/wait"),
            ("GET", "/follow"),
            ("GET", "/results"),
            ("GET", "/results?format=csv"),
            ("GET", "/results/0"),
            ("GET", "/errors"),
            ("GET", "/errors?format=ndjson"),
            ("GET", "/errors/counts"),
            ("GET", "/attempts"),
            ("GET", "/blockers"),
            ("POST", "/cancel"),
            ("POST", "/retry"),
            ("DELETE", ""),
        ],
    )
    def test_the_batch_of_another_tenant_does_not_exist(
        self, database: Database, database_url: str, method: str, path: str
    ) -> None:
        batch_id = ended_batch(database)  # of the tenant `default`
        with client_over(database, database_url) as api:
            headers = key_headers(database, "other")
            theirs = api.request(method, f"/api/batches/{batch_id}{path}", headers=headers)
            unknown = api.request(method, f"/api/batches/batch_none{path}", headers=headers)

        assert (theirs.status_code, unknown.status_code) == (404, 404)
        assert theirs.text.replace(batch_id, "ID") == unknown.text.replace("batch_none", "ID")
        assert views.get_batch(database, batch_id).status == "completed"

    def test_lists_have_only_the_own_ones(self, database: Database, database_url: str) -> None:
        theirs, mine = insert_batch(database, 1), insert_batch(database, 1, tenant="mine")
        with client_over(database, database_url) as api:
            headers = key_headers(database, "mine")
            listed = api.get("/api/batches", headers=headers).json()
            after = api.get("/api/batches", params={"after": theirs}, headers=headers)

        assert [batch["id"] for batch in listed["data"]] == [mine]
        assert after.status_code == 404

    def test_a_key_needs_the_scope(self, database: Database, database_url: str) -> None:
        batch_id = ended_batch(database)
        with client_over(database, database_url) as api:
            reader = key_headers(database, "default", Scope.READ)
            read = api.get(f"/api/batches/{batch_id}", headers=reader)
            acts = [api.post(f"/api/batches/{batch_id}/{act}", headers=reader) for act in ("cancel", "retry", "repair")]
            deleted = api.delete(f"/api/batches/{batch_id}", headers=reader)
            submitted = api.post("/api/batches", json={"pipeline": "x", "inputs": []}, headers=reader)

        assert read.status_code == 200
        assert {response.status_code for response in (*acts, deleted, submitted)} == {403}
