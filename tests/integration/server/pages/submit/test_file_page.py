"""The dry run of a form, and its submission, also twice."""

import gzip
import re

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.errors import TooManyJobs
from producer.batches import views
from producer.server.native.batches.submission.submitting import Submission
from tests.factories.hostile import HOSTILE_NAME
from tests.factories.submit_pages import CSV, batch_of, count, form_of, hidden, inputs_of, submit, upload, uploaded


class TestCheck:
    def check(self, browser: TestClient, address: str, *, part: bool = True, **fields: str) -> str:
        form = {**form_of(browser.get(address).text), "column.text": "review", **fields}
        headers = {"hx-request": "true"} if part else {}
        response = browser.post(f"{address.partition('?')[0]}/check", data=form, headers=headers)
        return str(response.text)

    def test_it_shows_the_dry_run_and_writes_nothing(self, browser: TestClient, database: Database) -> None:
        part = self.check(browser, uploaded(browser))

        assert "All rows can be jobs." in part
        assert "Lengths of the inputs" in part
        assert "there is no forecast" in part
        assert "<html" not in part
        assert count(database, "batches") == 0

    def test_without_scripts_it_is_a_page_that_keeps_the_form(self, browser: TestClient) -> None:
        page = self.check(browser, uploaded(browser), part=False, name="mine", **{"parameter.top_k": "2"})

        assert "All rows can be jobs." in page
        assert 'name="name" value="mine"' in page
        assert 'name="parameter.top_k" value="2"' in page

    def test_its_address_leads_to_the_form(self, browser: TestClient) -> None:
        address = uploaded(browser).partition("?")[0]

        response = browser.get(f"{address}/check")

        assert (response.status_code, response.headers["location"]) == (303, address)

    def test_wrong_rows_are_listed(self, browser: TestClient) -> None:
        address = uploaded(browser, b"id,review\n1,good\n1,again\n2,\n")

        rejecting = self.check(browser, address)
        failing = self.check(browser, address, on_invalid="fail-row")

        assert "The file would be refused, because 2 rows can't be jobs" in rejecting
        assert "line 3: has custom_id" in rejecting
        assert "2 rows will fail" in failing

    def test_wrong_rows_can_be_let_fail_alone_there(self, browser: TestClient) -> None:
        address = uploaded(browser, b"id,review\n1,good\n2,\n")
        choice = re.search(
            r'name="(\w+)" value="([\w-]+)" formaction="([^"]+)">let it fail', self.check(browser, address)
        )

        page = self.check(browser, address, part=False, **{choice[1]: choice[2]})

        assert choice[3] == f"{address.partition('?')[0]}/check"
        assert "1 row will fail" in page
        assert '<option value="fail-row" selected>' in page

    def test_a_wrong_row_speaks_of_the_form(self, browser: TestClient) -> None:
        address = uploaded(browser, b'{"review": "good"}\n{"note": "bad"}\n', "reviews.jsonl")

        page = self.check(browser, address)

        assert "choose another column in the form" in page
        assert "input_columns" not in page

    def test_a_wrong_field_is_named(self, browser: TestClient) -> None:
        address = uploaded(browser)

        assert "Choose the column that has the text" in self.check(browser, address, **{"column.text": ""})
        page = self.check(browser, address, part=False, **{"parameter.top_k": "0"})
        assert 'id="parameter.top_k-problem"' in page

    def test_the_guards_are_tried(self, browser: TestClient) -> None:
        part = self.check(browser, uploaded(browser), pipeline="sample-guarded-sentiment")

        assert "<h3>Guards</h3>" in part
        assert "0 of 2" in part
        assert "not tried" in part


class TestSubmit:
    def test_the_rows_become_jobs(self, browser: TestClient, database: Database) -> None:
        address = uploaded(browser)

        response = submit(
            browser,
            address,
            name=HOSTILE_NAME,
            keep="stars",
            priority="3",
            metadata="day=monday",
            **{"parameter.top_k": "2"},
        )

        batch = views.get_batch(database, batch_of(response))
        assert (batch.name, batch.priority, batch.metadata) == (HOSTILE_NAME, 3, {"day": "monday"})
        assert batch.parameters["top_k"] == 2
        assert inputs_of(database, batch.id) == [("1", "a fine day"), ("2", "a bad day")]

    def test_a_double_click_makes_one_batch(self, browser: TestClient, database: Database) -> None:
        address = uploaded(browser)
        form = {**form_of(browser.get(address).text), "column.text": "review"}

        responses = [browser.post(address.partition("?")[0], data=form) for _ in range(3)]

        assert len({batch_of(response) for response in responses}) == 1
        assert count(database, "batches") == 1

    def test_the_same_form_with_other_values_asks_again(self, browser: TestClient, database: Database) -> None:
        address = uploaded(browser)
        form = {**form_of(browser.get(address).text), "column.text": "review"}
        path = address.partition("?")[0]
        first = browser.post(path, data=form)

        refused = browser.post(path, data={**form, "name": "other"})
        again = browser.post(path, data={**form, "name": "other", "key": hidden(refused.text, "key")})

        assert refused.status_code == 409
        assert "This form was submitted before, with other values" in refused.text
        assert batch_of(again) != batch_of(first)
        assert count(database, "batches") == 2

    def test_wrong_rows_leave_nothing_and_keep_the_form(self, browser: TestClient, database: Database) -> None:
        address = uploaded(browser, b"id,review\n1,good\n1,again\n")

        refused = submit(browser, address, name="mine")
        mended = submit(browser, address, name="mine", on_invalid="fail-row")

        assert refused.status_code == 400
        assert "line 3: has custom_id" in refused.text
        assert 'name="name" value="mine"' in refused.text
        assert count(database, "batches") == 1
        assert views.get_batch(database, batch_of(mended)).counts.failed == 1

    def test_a_pipeline_that_is_gone_is_not_replaced(self, browser: TestClient, database: Database) -> None:
        refused = submit(browser, uploaded(browser), pipeline="gone")

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
        self, browser: TestClient, database: Database, field: str, value: str
    ) -> None:
        response = submit(browser, uploaded(browser), **{field: value})

        assert response.status_code == 400
        assert f'id="{field}-problem"' in response.text
        assert count(database, "batches") == 0

    def test_a_large_file_is_read_afterwards(self, browser: TestClient, database: Database) -> None:
        content = b"review\n" + b"a fine day, all in all\n".replace(b",", b"") * 60_000

        response = submit(browser, uploaded(browser, content))

        assert views.get_batch(database, batch_of(response)).status == "validating"

    def test_compressed_files_are_read_too(self, browser: TestClient, database: Database) -> None:
        response = submit(browser, uploaded(browser, gzip.compress(CSV), "reviews.csv.gz"))

        assert len(inputs_of(database, batch_of(response))) == 2

    def test_a_full_tenant_is_asked_to_wait(self, browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Submission) -> None:
            raise TooManyJobs("default has 10 unanswered jobs, and may have 10", 60.0)

        monkeypatch.setattr(Submission, "submit_document", fail)

        response = submit(browser, uploaded(browser), name="mine")

        assert response.status_code == 429
        assert "may have 10" in response.text
        assert 'name="name" value="mine"' in response.text

    def test_a_forged_form_does_nothing(self, browser: TestClient, database: Database) -> None:
        address = uploaded(browser)

        assert submit(browser, address, csrf_token="0" * 64).status_code == 403
        assert count(database, "batches") == 0


def test_no_input_reaches_a_log(browser: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    canary = "canary-4711"
    good = uploaded(browser, f"review\n{canary}\n".encode())
    bad = uploaded(browser, f'{{"review": "{canary}"}}\n{canary}\n'.encode(), "a.jsonl")
    broken = uploaded(browser, canary.encode(), "a.parquet")

    for address in (good, bad, broken):
        form = {**form_of(browser.get(good).text), "column.text": "review", "file_format": "jsonl", "priority": canary}
        for path in (address, f"{address.partition('?')[0]}/check"):
            browser.post(path.partition("?")[0], data=form)
        submit_as_is = {**form_of(browser.get(good).text), "column.text": "review"}
        browser.post(address.partition("?")[0], data=submit_as_is)
    upload(browser, b"", "", texts=canary, csrf_token="0" * 64)

    assert canary not in "".join(capsys.readouterr())
