"""Repair on the pages: a file of corrected rows, or the input of one row, as `submit --repair` takes them."""

import json
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from models.db import Database
from models.states import BatchStatus
from producer.batches import views
from producer.results.browsing import job_detail
from producer.server.native.batches import changes
from producer.tenants.principal import Scope
from producer.uploads.storage.store import open_store
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.page_clients import Page, assert_harmless, csrf_token, sign_in_as
from tests.fake_worker import end_batch, write_results
from tests.integration.server.pages.batches.conftest import HOSTILE


@pytest.fixture
def batch_id(database: Database) -> str:
    """An ended batch: rows 1 and 2 were invalid, row 3 was too long, rows 0 and 4 succeeded."""
    batch_id = insert_batch(database, 5, name="Reviews")
    outcomes = [(0, {"label": "A"}), (1, "empty_text"), (2, "not_text"), (3, "input_too_long"), (4, {"label": "A"})]
    write_results(database, batch_id, outcomes)
    execute(database, "UPDATE results SET attempts = 0 WHERE position IN (1, 2)")
    execute(database, "UPDATE jobs SET invalid = true WHERE position IN (1, 2)")
    end_batch(database, batch_id, BatchStatus.COMPLETED)
    return batch_id


def send(browser: TestClient, batch_id: str, content: bytes, filename: str = "mended.jsonl", **fields: str) -> Response:
    """Send the form as a browser does: the token first, the file last."""
    data = {"csrf_token": csrf_token(browser), "code": "", **fields}
    return browser.post(f"/batches/{batch_id}/repair", data=data, files={"file": (filename, content)})


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def row(position: int, text: Any = "a better text") -> dict[str, Any]:
    return {"position": position, "input": {"text": text}}


def input_of(database: Database, batch_id: str, position: int) -> Any:
    return json.loads(job_detail.get_job(database, batch_id, position).input.text)


def unanswered(database: Database, batch_id: str) -> int:
    return views.get_batch(database, batch_id).counts.unanswered


class TestFile:
    def test_the_page_leads_from_the_failed_rows_to_the_form(self, browser: TestClient, batch_id: str) -> None:
        page = Page(browser.get(f"/batches/{batch_id}/repair?code=empty_text").text)
        links = [link.get("href") for link in page.all("a")]

        assert f"/batches/{batch_id}/download?format=ndjson&status=failed&code=empty_text" in links
        assert "3 failed of 5 jobs" in page.text
        fields = [field["name"] for field in page.all("input") if field.get("name")]
        assert fields.index("csrf_token") < fields.index("file")

    def test_the_downloaded_rows_come_back_corrected(
        self, browser: TestClient, database: Database, batch_id: str
    ) -> None:
        downloaded = browser.get(f"/batches/{batch_id}/download?format=ndjson&status=failed").text
        rows = [json.loads(line) | {"input": {"text": "mended"}} for line in downloaded.splitlines()]

        answer = send(browser, batch_id, lines(*rows))

        assert (answer.status_code, answer.headers["location"]) == (303, f"/batches/{batch_id}")
        assert "3 rows were put back, and run again." in browser.get("/batches").text
        assert unanswered(database, batch_id) == 3
        assert input_of(database, batch_id, 2) == {"text": "mended"}

    def test_a_table_repairs_some_rows_and_the_message_says_what_is_left(
        self, browser: TestClient, database: Database, batch_id: str
    ) -> None:
        answer = send(browser, batch_id, b"position,text\n1,mended\n", "mended.csv")

        assert answer.status_code == 303
        assert "1 row was put back, and runs again. 2 other rows have failed." in browser.get("/batches").text

    def test_rows_that_can_not_be_used_are_named_and_nothing_changes(
        self, browser: TestClient, database: Database, batch_id: str
    ) -> None:
        not_failed = send(browser, batch_id, lines(row(1), row(0)))
        no_jobs = send(browser, batch_id, lines(row(1), row(2, 7), {"input": {"text": HOSTILE}, HOSTILE: 1}))
        page = assert_harmless(no_jobs.text)

        assert (not_failed.status_code, no_jobs.status_code) == (400, 400)
        assert "line 2: repairs no failed job: there is none at position 0" in not_failed.text
        assert "Nothing was put back" in page.text
        assert "line 2: " in page.text
        assert "line 3: names no job" in page.text
        assert "line 1:" not in page.text
        assert unanswered(database, batch_id) == 0
        assert views.get_batch(database, batch_id).status is BatchStatus.COMPLETED

    @pytest.mark.parametrize(
        ("content", "filename", "fields", "sentence"),
        [
            (b"", "", {}, "Choose the file with the corrected rows"),
            (b"", "empty.csv", {}, "empty.csv is empty"),
            (b"position\n1\n", "mended.csv", {}, "text"),
            (b"x", "mended.jsonl", {"file_format": "docx"}, "there is no format"),
            (b'{"position": 1, "text": "x"}\n', "mended.jsonl", {"deadline": "yesterday"}, "yesterday"),
        ],
    )
    def test_a_form_that_is_refused_comes_again(
        self, browser: TestClient, batch_id: str, content: bytes, filename: str, fields: dict[str, str], sentence: str
    ) -> None:
        answer = send(browser, batch_id, content, filename, **fields)

        assert answer.status_code == 400
        assert sentence.lower() in answer.text.lower()
        assert 'name="file"' in answer.text

    def test_a_file_over_the_limit_is_refused(
        self, browser: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(changes, "MAX_REPAIR_BYTES", 1_000)

        assert send(browser, batch_id, lines(*[row(1)] * 100)).status_code == 413

    def test_the_token_is_checked_before_the_file(self, browser: TestClient, database: Database, batch_id: str) -> None:
        without = send(browser, batch_id, lines(row(1)), csrf_token="")
        after = browser.post(
            f"/batches/{batch_id}/repair",
            files=[("file", ("mended.jsonl", lines(row(1)))), ("csrf_token", (None, csrf_token(browser)))],
        )

        assert (without.status_code, after.status_code) == (403, 403)
        assert unanswered(database, batch_id) == 0

    def test_a_batch_that_runs_again_says_so(self, browser: TestClient, batch_id: str) -> None:
        send(browser, batch_id, lines(row(1)))

        again = send(browser, batch_id, lines(row(2)))

        assert again.status_code == 400
        assert "The batch is in progress now" in again.text
        assert "batchmill wait" not in again.text

    def test_the_file_is_gone_afterwards(self, browser: TestClient, batch_id: str) -> None:
        folder = open_store(browser.app.state.context.settings)._folder  # type: ignore[attr-defined]
        send(browser, batch_id, b"")
        before = {path for path in folder.rglob("*") if path.is_file()}

        send(browser, batch_id, lines(row(1)))

        assert folder.is_dir()
        assert {path for path in folder.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize(("tenant", "scopes", "status"), [("acme", (), 404), (None, (Scope.READ,), 403)])
    def test_others_can_not_repair_it(
        self,
        browser: TestClient,
        database: Database,
        batch_id: str,
        tenant: str | None,
        scopes: tuple[Scope, ...],
        status: int,
    ) -> None:
        sign_in_as(browser, database, tenant, *scopes)

        assert browser.get(f"/batches/{batch_id}/repair").status_code == status
        assert send(browser, batch_id, lines(row(1))).status_code == status
        assert unanswered(database, batch_id) == 0


class TestRow:
    def post(self, browser: TestClient, batch_id: str, position: int, text: str) -> Response:
        address = f"/batches/{batch_id}/rows/{position}/repair"
        return browser.post(address, data={"csrf_token": csrf_token(browser), "input": text})

    def test_the_form_has_the_input_and_puts_another_in_its_place(
        self, browser: TestClient, database: Database, batch_id: str
    ) -> None:
        page = browser.get(f"/batches/{batch_id}/rows/3").text

        answer = self.post(browser, batch_id, 3, '{"text": "shorter"}')

        assert f'action="/batches/{batch_id}/rows/3/repair"' in page
        assert "&#34;text&#34;: &#34;text 3&#34;" in page
        assert answer.headers["location"] == f"/batches/{batch_id}/rows/3"
        assert input_of(database, batch_id, 3) == {"text": "shorter"}
        assert unanswered(database, batch_id) == 1

    @pytest.mark.parametrize(
        ("typed", "sentence"),
        [("{", "the input"), ("[]", "no JSON object"), ('{"text": ""}', "put back"), ("[" * 100_000, "the input")],
    )
    def test_an_input_that_can_not_be_used_stays_in_the_form(
        self, browser: TestClient, database: Database, batch_id: str, typed: str, sentence: str
    ) -> None:
        answer = self.post(browser, batch_id, 1, typed)

        assert answer.status_code == 400
        assert sentence.lower() in answer.text.lower()
        assert Page(answer.text).text.count(typed)
        assert unanswered(database, batch_id) == 0

    def test_a_row_that_did_not_fail_has_no_form(self, browser: TestClient, batch_id: str) -> None:
        assert "/rows/0/repair" not in browser.get(f"/batches/{batch_id}/rows/0").text
        assert self.post(browser, batch_id, 0, '{"text": "x"}').status_code == 400
        assert browser.get(f"/batches/{batch_id}/rows/0/repair").status_code == 303

    def test_a_reader_has_no_form(self, browser: TestClient, database: Database, batch_id: str) -> None:
        sign_in_as(browser, database, None, Scope.READ)

        assert "/rows/1/repair" not in browser.get(f"/batches/{batch_id}/rows/1").text
        assert self.post(browser, batch_id, 1, '{"text": "x"}').status_code == 403

    def test_hostile_inputs_are_escaped(self, browser: TestClient, hostile_batch: str) -> None:
        assert_harmless(browser.get(f"/batches/{hostile_batch}/rows/5").text)
        assert_harmless(self.post(browser, hostile_batch, 5, HOSTILE).text)
