"""Submitting on the pages, as a browser does it: with forms, without scripts, and twice."""

import gzip
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from models.db import Database
from models.errors import FileStoreUnavailable, TooManyJobs
from producer.batches import views
from producer.server.native.batches.submitting import Submission
from producer.server.pages.frame.texts import cut
from producer.server.pages.submit import file_list, uploading
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from producer.uploads import local_store
from tests.factories.http_server import client_over

PIPELINE = "sample-sentiment-analysis"
HOSTILE = '<script>alert(1)</script> "quoted" \u202e\'end'
CSV = b"id,review,stars\n1,a fine day,5\n2,a bad day,1\n"


@pytest.fixture
def pages(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        client.follow_redirects = False
        yield client


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return html.unescape(found[1])


def token(pages: TestClient) -> str:
    return hidden(pages.get("/submit").text, "csrf_token")


def sign_in(pages: TestClient, database: Database, tenant: str | None, *scopes: Scope) -> None:
    """Begin a session with a new key."""
    pages.follow_redirects = False
    new_key = keys.create_key(database, KeyRequest(tenant, scopes or tuple(Scope)))
    page = pages.get("/login").text
    response = pages.post("/login", data={"csrf_token": hidden(page, "csrf_token"), "key": new_key.text})
    assert response.status_code == 303, response.text


def upload(pages: TestClient, content: bytes = CSV, filename: str = "reviews.csv", **fields: str) -> Any:
    """Send the form as a browser does: the token first, the file last."""
    data = {"csrf_token": token(pages), "key": "", "pipeline": PIPELINE, "texts": "", **fields}
    return pages.post("/submit/files", data=data, files={"file": (filename, content)})


def uploaded(pages: TestClient, content: bytes = CSV, filename: str = "reviews.csv") -> str:
    """Return the address of the form of a file."""
    response = upload(pages, content, filename)
    assert response.status_code == 303
    return str(response.headers["location"])


def form_of(page: str) -> dict[str, str]:
    """The hidden fields of the form that submits, which a browser sends whatever the visitor enters."""
    return {name: hidden(page, name) for name in ("csrf_token", "key", "pipeline", "file_format")}


def submit(pages: TestClient, address: str, **fields: str) -> Any:
    form = form_of(pages.get(address).text)
    return pages.post(address.partition("?")[0], data={**form, "column.text": "review", **fields})


def count(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def inputs_of(database: Database, batch_id: str) -> list[tuple[Any, Any]]:
    query = text("SELECT custom_id, input, passthrough FROM jobs WHERE batch_id = :id ORDER BY position")
    with database.read() as connection:
        rows = connection.execute(query, {"id": batch_id}).all()
    parse = lambda value: json.loads(value) if isinstance(value, str) else value  # noqa: E731
    return [(row.custom_id, parse(row.input)["text"]) for row in rows]


def batch_of(response: Any) -> str:
    assert response.status_code == 303, response.text
    return str(response.headers["location"]).rpartition("/")[2]


class TestStart:
    def test_the_page_offers_the_catalogue(self, pages: TestClient) -> None:
        page = pages.get("/submit", params={"pipeline": "sample-ner"}).text

        assert '<optgroup label="ner">' in page
        assert '<option value="sample-ner" selected>' in page
        assert "none serves it now" in page
        assert "up to 2.1 GB" in page

    def test_an_unknown_pipeline_is_named(self, pages: TestClient) -> None:
        page = pages.get("/submit", params={"pipeline": HOSTILE}).text

        assert f"There is no pipeline “{cut(HOSTILE, 80)}”" in html.unescape(page)
        assert "<script>alert" not in page

    def test_a_choice_renders_its_part(self, pages: TestClient) -> None:
        response = pages.get("/submit/pipeline", params={"pipeline": "sample-ner"}, headers={"hx-request": "true"})

        assert response.headers["hx-replace-url"] == "/submit?pipeline=sample-ner"
        assert "<html" not in response.text
        assert "bundled:ner" in response.text
        assert pages.get("/submit/pipeline", params={"pipeline": "sample-ner"}).status_code == 303
        unknown = pages.get("/submit/pipeline", params={"pipeline": "x"}, headers={"hx-request": "true"})
        assert unknown.status_code == 404

    def test_the_example_is_submitted_at_once(self, pages: TestClient, database: Database) -> None:
        form = {"csrf_token": token(pages), "pipeline": PIPELINE, "key": "page-" + "a" * 24}

        first, second = (pages.post("/submit/example", data=form) for _ in range(2))

        batch = views.get_batch(database, batch_of(first))
        assert (batch.name, batch.counts.total) == ("example", 300)
        assert batch_of(second) == batch.id

    def test_the_example_is_a_file(self, pages: TestClient) -> None:
        response = pages.get("/submit/example", params={"pipeline": "sample-ner"})

        assert json.loads(response.text.splitlines()[0])["text"].startswith("My name is Sarah")
        assert response.headers["content-disposition"] == 'attachment; filename="sample-ner-example.jsonl"'
        assert pages.get("/submit/example", params={"pipeline": "x"}).status_code == 404


class TestUpload:
    def test_a_file_leads_to_its_form(self, pages: TestClient) -> None:
        response = upload(pages)

        assert response.status_code == 303
        path, _, query = response.headers["location"].partition("?")
        assert path.startswith("/submit/files/file-")
        assert dict(parse_qsl(query)) == {"pipeline": PIPELINE}

    def test_a_script_gets_the_address(self, pages: TestClient) -> None:
        sent = {"hx-request": "true", "x-csrf-token": token(pages)}

        response = pages.post("/submit/files", files={"file": ("a.csv", CSV)}, headers=sent)

        assert response.status_code == 200
        assert response.headers["hx-redirect"].startswith("/submit/files/file-")

    def test_pasted_lines_become_a_file(self, pages: TestClient, database: Database) -> None:
        response = upload(pages, b"", "", texts="a fine day\r\n\r\n{not json\r\n")
        address = response.headers["location"]

        batch_id = batch_of(submit(pages, address))

        assert inputs_of(database, batch_id) == [(None, "a fine day"), (None, "{not json")]

    @pytest.mark.parametrize(
        ("content", "filename", "message"),
        [(b"", "", "choose a file, or paste"), (b"", "empty.csv", "empty.csv is empty")],
    )
    def test_nothing_is_refused(
        self, pages: TestClient, database: Database, content: bytes, filename: str, message: str
    ) -> None:
        response = upload(pages, content, filename, pipeline="sample-ner")

        assert response.status_code == 400
        assert message in response.text
        assert '<option value="sample-ner" selected>' in response.text
        assert count(database, "files") == 0

    def test_a_forged_form_is_refused_before_its_file(
        self, pages: TestClient, database: Database, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local_store.LocalStore, "_create", lambda *_: pytest.fail("the file was received"))

        for value in ("", "0" * 64):
            assert upload(pages, csrf_token=value).status_code == 403
        files = {"file": ("a.csv", CSV)}
        assert pages.post("/submit/files", files=files).status_code == 403
        headers = {"x-csrf-token": token(pages), "origin": "https://evil.example"}
        assert pages.post("/submit/files", files=files, headers=headers).status_code == 403
        assert count(database, "files") == 0

    def test_a_large_file_is_refused_with_its_limit(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url, max_upload_bytes=100) as pages:
            response = upload(pages, b"x" * 200)
            part = pages.post(
                "/submit/files",
                files={"file": ("a.csv", b"x" * 200)},
                headers={"hx-request": "true", "x-csrf-token": token(pages)},
            )

        assert (response.status_code, part.status_code) == (413, 413)
        assert "The file has more than 100 bytes" in response.text
        assert part.headers["content-type"].startswith("text/plain")
        assert part.text.startswith("the file has more than 100 bytes")

    def test_a_full_store_is_no_traceback(self, pages: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise FileStoreUnavailable("/secret/folder is full")

        monkeypatch.setattr(local_store.LocalStore, "_create", fail)

        response = upload(pages)

        assert response.status_code == 503
        assert "The file store is full or does not answer" in response.text
        assert "/secret" not in response.text

    def test_a_failing_database_leaves_no_bytes(
        self, pages: TestClient, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise TooManyJobs("full", 1.0)

        monkeypatch.setattr(uploading.files, "save_file", fail)

        assert upload(pages).status_code == 429
        assert [path for path in batchmill_home.rglob("*") if len(path.name) == 32] == []


class TestForm:
    def test_it_shows_what_is_in_the_file(self, pages: TestClient) -> None:
        page = pages.get(uploaded(pages)).text

        assert '<span class="column-name">review</span> <span class="role-tag">input text</span>' in page
        assert '<td class="text">a fine day</td>' in page
        assert '<option value="review" selected>' in page
        assert "automatic: id" in page
        assert "Submit 2 rows" in page
        assert f"o worker serves {PIPELINE} now" in page

    def test_the_address_fills_the_form(self, pages: TestClient) -> None:
        address = uploaded(pages)

        page = pages.get(f"{address}&column.text=id&parameter.top_k=3&name=deep&keep=stars&deadline=6h").text

        assert '<option value="id" selected>' in page
        assert 'name="parameter.top_k" value="3"' in page
        assert 'name="name" value="deep"' in page
        assert 'name="keep" value="stars" checked' in page
        assert "<details open>" in page

    def test_parameters_have_their_limits(self, pages: TestClient) -> None:
        address = uploaded(pages).partition("?")[0]

        page = pages.get(address, params={"pipeline": "sample-text-generation"}).text

        assert re.search(r'<input type="number" id="parameter.max_new_tokens"[^>]* min="1" max="256', page)
        assert "more parameters</summary>" in page
        assert '<select id="parameter.do_sample"' in page

    def test_an_optional_field_has_the_column_of_its_name(self, pages: TestClient) -> None:
        address = uploaded(pages, b"text,text_pair\na,b\n")

        page = pages.get(f"{address}&column.text_pair=").text

        assert (
            '<option value="text_pair" selected>'
            in page.partition('id="column.text_pair"')[2].partition("</select>")[0]
        )
        assert ">none</option>" not in page.partition('id="column.text_pair"')[2].partition("</select>")[0]

    def test_hostile_content_is_text(self, pages: TestClient) -> None:
        row = {HOSTILE: HOSTILE + "x" * 10_000, "id": HOSTILE}

        page = pages.get(uploaded(pages, json.dumps(row).encode(), f"{HOSTILE}.jsonl")).text

        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "more characters)" in page
        assert len(page) < 200_000

    def test_a_file_that_cannot_be_read_says_why(self, pages: TestClient) -> None:
        page = pages.get(uploaded(pages, b"PK\x03\x04", "sheet.csv")).text

        assert "is a ZIP or Excel file; unpack it, or save the sheet as CSV (UTF-8)" in page
        assert 'id="submission"' not in page

    def test_openais_lines_have_another_way(self, pages: TestClient) -> None:
        line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}
        address = uploaded(pages, json.dumps(line).encode(), "a.jsonl")

        assert "POST /v1/batches" in pages.get(address).text

    def test_an_unknown_file_is_none(self, pages: TestClient) -> None:
        for path in ("/submit/files/file-x", "/submit/files/file-x/delete"):
            assert pages.get(path).status_code == 404
            assert pages.post(path, data={"csrf_token": token(pages)}).status_code == 404
        assert pages.post("/submit/files/file-x/check", data={"csrf_token": token(pages)}).status_code == 404
        assert pages.get("/submit/files/file-x/check").status_code == 404


class TestCheck:
    def check(self, pages: TestClient, address: str, *, part: bool = True, **fields: str) -> str:
        form = {**form_of(pages.get(address).text), "column.text": "review", **fields}
        headers = {"hx-request": "true"} if part else {}
        response = pages.post(f"{address.partition('?')[0]}/check", data=form, headers=headers)
        return str(response.text)

    def test_it_shows_the_dry_run_and_writes_nothing(self, pages: TestClient, database: Database) -> None:
        part = self.check(pages, uploaded(pages))

        assert "All rows can be jobs." in part
        assert "Lengths of the inputs" in part
        assert "there is no forecast" in part
        assert "<html" not in part
        assert count(database, "batches") == 0

    def test_without_scripts_it_is_a_page_that_keeps_the_form(self, pages: TestClient) -> None:
        page = self.check(pages, uploaded(pages), part=False, name="mine", **{"parameter.top_k": "2"})

        assert "All rows can be jobs." in page
        assert 'name="name" value="mine"' in page
        assert 'name="parameter.top_k" value="2"' in page

    def test_its_address_leads_to_the_form(self, pages: TestClient) -> None:
        address = uploaded(pages).partition("?")[0]

        response = pages.get(f"{address}/check")

        assert (response.status_code, response.headers["location"]) == (303, address)

    def test_wrong_rows_are_listed(self, pages: TestClient) -> None:
        address = uploaded(pages, b"id,review\n1,good\n1,again\n2,\n")

        rejecting = self.check(pages, address)
        failing = self.check(pages, address, on_invalid="fail-row")

        assert "The file would be refused, because 2 rows can't be jobs" in rejecting
        assert "line 3: has custom_id" in rejecting
        assert "2 rows will fail" in failing

    def test_a_wrong_row_speaks_of_the_form(self, pages: TestClient) -> None:
        address = uploaded(pages, b'{"review": "good"}\n{"note": "bad"}\n', "reviews.jsonl")

        page = self.check(pages, address)

        assert "choose another column in the form" in page
        assert "input_columns" not in page

    def test_a_wrong_field_is_named(self, pages: TestClient) -> None:
        address = uploaded(pages)

        assert "choose the column that has the text" in self.check(pages, address, **{"column.text": ""})
        page = self.check(pages, address, part=False, **{"parameter.top_k": "0"})
        assert 'id="parameter.top_k-problem"' in page

    def test_the_guards_are_tried(self, pages: TestClient) -> None:
        part = self.check(pages, uploaded(pages), pipeline="sample-guarded-sentiment")

        assert "<h3>Guards</h3>" in part
        assert "0 of 2" in part
        assert "not tried" in part


class TestSubmit:
    def test_the_rows_become_jobs(self, pages: TestClient, database: Database) -> None:
        address = uploaded(pages)

        response = submit(
            pages, address, name=HOSTILE, keep="stars", priority="3", metadata="day=monday", **{"parameter.top_k": "2"}
        )

        batch = views.get_batch(database, batch_of(response))
        assert (batch.name, batch.priority, batch.metadata) == (HOSTILE, 3, {"day": "monday"})
        assert batch.parameters["top_k"] == 2
        assert inputs_of(database, batch.id) == [("1", "a fine day"), ("2", "a bad day")]

    def test_a_double_click_makes_one_batch(self, pages: TestClient, database: Database) -> None:
        address = uploaded(pages)
        form = {**form_of(pages.get(address).text), "column.text": "review"}

        responses = [pages.post(address.partition("?")[0], data=form) for _ in range(3)]

        assert len({batch_of(response) for response in responses}) == 1
        assert count(database, "batches") == 1

    def test_the_same_form_with_other_values_asks_again(self, pages: TestClient, database: Database) -> None:
        address = uploaded(pages)
        form = {**form_of(pages.get(address).text), "column.text": "review"}
        path = address.partition("?")[0]
        first = pages.post(path, data=form)

        refused = pages.post(path, data={**form, "name": "other"})
        again = pages.post(path, data={**form, "name": "other", "key": hidden(refused.text, "key")})

        assert refused.status_code == 409
        assert "This form was submitted before, with other values" in refused.text
        assert batch_of(again) != batch_of(first)
        assert count(database, "batches") == 2

    def test_wrong_rows_leave_nothing_and_keep_the_form(self, pages: TestClient, database: Database) -> None:
        address = uploaded(pages, b"id,review\n1,good\n1,again\n")

        refused = submit(pages, address, name="mine")
        mended = submit(pages, address, name="mine", on_invalid="fail-row")

        assert refused.status_code == 400
        assert "line 3: has custom_id" in refused.text
        assert 'name="name" value="mine"' in refused.text
        assert count(database, "batches") == 1
        assert views.get_batch(database, batch_of(mended)).counts.failed == 1

    def test_a_pipeline_that_is_gone_is_not_replaced(self, pages: TestClient, database: Database) -> None:
        refused = submit(pages, uploaded(pages), pipeline="gone")

        assert refused.status_code == 400
        assert "There is no pipeline &#39;gone&#39;; choose one of the list" in refused.text
        assert count(database, "batches") == 0

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("parameter.top_k", "0"),
            ("parameter.top_k", "many"),
            ("deadline", "soon"),
            ("deadline", "2020-01-01T00:00Z"),
            ("max_failures", "some"),
            ("priority", "high"),
            ("metadata", "monday"),
            ("name", "x" * 300),
            ("name", "a\0b"),
            ("webhook_url", "ftp://example.com"),
        ],
    )
    def test_a_wrong_option_is_named_beside_its_field(
        self, pages: TestClient, database: Database, field: str, value: str
    ) -> None:
        response = submit(pages, uploaded(pages), **{field: value})

        assert response.status_code == 400
        assert f'id="{field}-problem"' in response.text
        assert count(database, "batches") == 0

    def test_a_large_file_is_read_afterwards(self, pages: TestClient, database: Database) -> None:
        content = b"review\n" + b"a fine day, all in all\n".replace(b",", b"") * 60_000

        response = submit(pages, uploaded(pages, content))

        assert views.get_batch(database, batch_of(response)).status == "validating"

    def test_compressed_files_are_read_too(self, pages: TestClient, database: Database) -> None:
        response = submit(pages, uploaded(pages, gzip.compress(CSV), "reviews.csv.gz"))

        assert len(inputs_of(database, batch_of(response))) == 2

    def test_a_full_tenant_is_asked_to_wait(self, pages: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Submission) -> None:
            raise TooManyJobs("default has 10 unanswered jobs, and may have 10", 60.0)

        monkeypatch.setattr(Submission, "submit_document", fail)

        response = submit(pages, uploaded(pages), name="mine")

        assert response.status_code == 429
        assert "may have 10" in response.text
        assert 'name="name" value="mine"' in response.text

    def test_a_forged_form_does_nothing(self, pages: TestClient, database: Database) -> None:
        address = uploaded(pages)

        assert submit(pages, address, csrf_token="0" * 64).status_code == 403
        assert count(database, "batches") == 0


class TestTenants:
    def test_the_files_of_others_do_not_exist(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url) as pages, client_over(database, database_url) as others:
            sign_in(pages, database, "acme")
            sign_in(others, database, "beta")
            address = uploaded(pages).partition("?")[0]
            form = {**form_of(pages.get(address).text), "column.text": "review"}
            stolen = {**form, "csrf_token": token(others)}

            assert "reviews.csv" in pages.get("/submit/files").text
            assert "reviews.csv" not in others.get("/submit/files").text
            for path in (address, f"{address}/delete"):
                assert others.get(path).status_code == 404
                assert others.post(path, data=stolen).status_code == 404
                assert others.post(path, data=form).status_code == 403  # the token of another session
            assert others.post(f"{address}/check", data=stolen).status_code == 404

            batch = views.get_batch(database, batch_of(pages.post(address, data=form)))
            assert batch.tenant == "acme"

    def test_a_key_that_only_reads_submits_nothing(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url) as pages:
            sign_in(pages, database, "acme", Scope.READ)

            assert pages.get("/submit/files").status_code == 200
            assert pages.get("/submit").status_code == 403
            headers = {"x-csrf-token": hidden(pages.get("/submit/files").text, "csrf_token")}
            assert pages.post("/submit/files", files={"file": ("a.csv", CSV)}, headers=headers).status_code == 403
        assert count(database, "files") == 0

    @pytest.mark.parametrize(("scopes", "is_led"), [((Scope.READ,), False), ((Scope.READ, Scope.SUBMIT), True)])
    def test_only_who_may_submit_is_led_there(
        self, database: Database, database_url: str, scopes: tuple[Scope, ...], is_led: bool
    ) -> None:
        with client_over(database, database_url) as pages:
            sign_in(pages, database, "acme", *scopes)

            for address in ("/", "/batches", "/pipelines", "/usage", "/submit/files"):
                assert ('href="/submit"' in pages.get(address).text) == is_led

    def test_the_operator_submits_for_the_tenant_of_the_file(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url) as pages, client_over(database, database_url) as operator:
            sign_in(pages, database, "acme")
            sign_in(operator, database, None)

            response = submit(operator, uploaded(pages))

            assert views.get_batch(database, batch_of(response)).tenant == "acme"


class TestFiles:
    def test_the_list_shows_files_with_their_batches(self, pages: TestClient) -> None:
        assert "No file was uploaded yet." in pages.get("/submit/files").text
        address = uploaded(pages, CSV, f"{HOSTILE}.csv")
        batch_id = batch_of(submit(pages, address, name="nightly"))

        page = pages.get("/submit/files").text

        assert f'<a href="/batches/{batch_id}">nightly</a>' in page
        assert "<script>alert" not in page
        assert "45 B" in page

    def test_pages_of_the_list_follow_each_other(self, pages: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file_list, "PAGE_FILES", 2)
        for number in range(3):
            uploaded(pages, CSV, f"{number}.csv")

        first = pages.get("/submit/files").text
        older = re.search(r'href="(/submit/files\?after=[^"]+)"', first)
        assert older is not None
        second = pages.get(html.unescape(older[1])).text

        assert [name in first for name in ("2.csv", "1.csv", "0.csv")] == [True, True, False]
        assert [name in second for name in ("2.csv", "1.csv", "0.csv")] == [False, False, True]

    def test_a_file_is_deleted_after_a_question(self, pages: TestClient) -> None:
        address = uploaded(pages).partition("?")[0]
        batch_id = batch_of(submit(pages, address))

        question = pages.get(f"{address}/delete").text
        part = pages.get(f"{address}/delete", headers={"hx-request": "true"}).text
        forged = pages.post(f"{address}/delete")
        deleted = pages.post(f"{address}/delete", data={"csrf_token": hidden(question, "csrf_token")})

        assert "1 batch was made from it, which keeps its jobs and results" in question
        assert "<html" not in part
        assert forged.status_code == 403
        assert (deleted.status_code, deleted.headers["location"]) == (303, "/submit/files")
        assert pages.get(address).status_code == 404
        assert pages.get(f"/api/batches/{batch_id}").status_code == 200


def test_no_input_reaches_a_log(pages: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    canary = "canary-4711"
    good = uploaded(pages, f"review\n{canary}\n".encode())
    bad = uploaded(pages, f'{{"review": "{canary}"}}\n{canary}\n'.encode(), "a.jsonl")
    broken = uploaded(pages, canary.encode(), "a.parquet")

    for address in (good, bad, broken):
        form = {**form_of(pages.get(good).text), "column.text": "review", "file_format": "jsonl", "priority": canary}
        for path in (address, f"{address.partition('?')[0]}/check"):
            pages.post(path.partition("?")[0], data=form)
        submit_as_is = {**form_of(pages.get(good).text), "column.text": "review"}
        pages.post(address.partition("?")[0], data=submit_as_is)
    upload(pages, b"", "", texts=canary, csrf_token="0" * 64)

    assert canary not in "".join(capsys.readouterr())
