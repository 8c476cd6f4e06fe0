"""A reader's way through the pages of `batchmill up`, with and without scripts, with a keyboard, and over a crash."""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from models.db import Database
from tests.browser.conftest import OpenVisit, Visit, stop_clock
from tests.deployment import Deployment, random_texts, temporary_deployment, wait_for
from tests.factories.batch_rows import insert_batch
from tests.fake_worker import end_batch, write_results

PIPELINE = "sample-sentiment-analysis"
MAX_RUN_MS = 240_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, str]]:
    """Yield `batchmill up` over SQLite and an embedded Valkey, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with temporary_deployment(tmp_path_factory.mktemp("up"), serve_port=str(port)) as deployment:
        deployment.start("up", "--pipelines", PIPELINE)
        deployment.wait_for_workers()
        yield deployment, wait_for(lambda: re.search(r"web page and HTTP API: (\S+)", deployment.log), "the server")[1]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A file of 60 reviews."""
    path = tmp_path / "reviews.jsonl"
    lines = [{"id": f"r{place}", "text": text} for place, text in enumerate(random_texts(60))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def submit(visited: Visit, file: Path, *, with_scripts: bool) -> Page:
    """Submit a file as a person does; returns the page of the batch."""
    page = visited.open(f"/submit?pipeline={PIPELINE}")
    page.get_by_label("Choose a file").set_input_files(file)
    if not with_scripts:  # they upload the file as soon as it is chosen
        page.get_by_role("button", name="Continue").click()
    page.wait_for_url(re.compile("/submit/files/"))
    expect(page.locator("main")).to_contain_text("text")
    page.get_by_role("button", name=re.compile("^Submit")).click()
    page.wait_for_url(re.compile("/batches/batch_"))
    return page


@pytest.mark.parametrize("with_scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_file_is_submitted_and_read(
    system: tuple[Deployment, str], reviews: Path, visit: OpenVisit, with_scripts: bool
) -> None:
    visited = visit(system[1], java_script_enabled=with_scripts)

    page = submit(visited, reviews, with_scripts=with_scripts)
    batch_id = re.search(r"/batches/([^/?]+)", page.url)[1]
    if not with_scripts:
        wait_for(lambda: system[0].count_results(batch_id) == 60, "all results")
        page.reload()
    expect(page.locator("main")).to_contain_text("completed", timeout=MAX_RUN_MS)
    page.get_by_role("link", name="All rows").click()
    expect(page.locator("main")).to_contain_text(re.compile("POSITIVE|NEGATIVE"))
    page.locator("tbody a").first.click()
    expect(page.locator("main")).to_contain_text("r0")


def test_a_reload_keeps_what_was_entered(own_address: str, reviews: Path, visit: OpenVisit) -> None:
    page = visit(own_address).open(f"/submit?pipeline={PIPELINE}")
    page.get_by_label("Choose a file").set_input_files(reviews)
    page.wait_for_url(re.compile("/submit/files/"))

    page.get_by_label("Name", exact=True).fill("nightly")
    page.get_by_label("Rows that can't be jobs").select_option("fail-row")
    page.locator("[name='column.text']").select_option("")
    page.wait_for_url(re.compile("column.text=&.*name=nightly.*on_invalid=fail-row"))
    page.reload()

    expect(page.get_by_label("Name", exact=True)).to_have_value("nightly")
    expect(page.get_by_label("Rows that can't be jobs")).to_have_value("fail-row")
    expect(page.locator("[name='column.text']")).to_have_value("")  # not guessed again
    assert "csrf_token" not in page.url


def test_the_dry_run_lets_wrong_rows_fail_alone(own_address: str, tmp_path: Path, visit: OpenVisit) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text('{"text": "I like it"}\n{"text": ""}\n')
    page = visit(own_address).open(f"/submit?pipeline={PIPELINE}")
    page.get_by_label("Choose a file").set_input_files(file)
    page.wait_for_url(re.compile("/submit/files/"))
    page.get_by_label("Name", exact=True).fill("nightly")

    page.get_by_role("button", name="let it fail alone").click()

    expect(page.locator("#check")).to_contain_text("1 row will fail")
    expect(page.get_by_label("Rows that can't be jobs")).to_have_value("fail-row")
    expect(page.get_by_label("Name", exact=True)).to_have_value("nightly")


def test_enter_submits_the_form_as_it_is(own_address: str, tmp_path: Path, visit: OpenVisit) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text('{"text": "I like it"}\n{"text": ""}\n')
    visited = visit(own_address)
    visited.expected = ["status of 400"]
    page = visited.open(f"/submit?pipeline={PIPELINE}")
    page.get_by_label("Choose a file").set_input_files(file)
    page.wait_for_url(re.compile("/submit/files/"))
    expect(page.get_by_role("button", name="let it fail alone")).to_be_visible()

    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_label("Name", exact=True).press("Enter")

    assert re.search("/submit/files/file-[^/]+$", sent.value.url)
    expect(page.locator("main")).to_contain_text("text is empty")
    expect(page.get_by_label("Rows that can't be jobs")).to_have_value("reject")


def test_a_killed_server_is_said_and_its_successor_found(system: tuple[Deployment, str], visit: OpenVisit) -> None:
    deployment, address = system
    visited = visit(address)
    visited.expected = ["net::ERR_", "Failed to fetch"]
    page = visited.open("/")
    expect(page.locator("[data-live-stream]")).to_have_attribute("data-live-state", "open")

    server = next(
        child for child in psutil.Process(deployment.processes[0].pid).children() if "serve" in child.cmdline()
    )
    os.kill(server.pid, signal.SIGKILL)

    expect(page.locator("#stale")).to_contain_text("Connection lost. Data as of")
    expect(page.locator("#stale")).to_be_hidden()
    expect(page.locator("body")).not_to_have_class(re.compile("is-stale"))


@pytest.mark.parametrize("with_scripts", [True, False], ids=["scripts", "no scripts"])
def test_failures_are_retried(database: Database, own_address: str, visit: OpenVisit, with_scripts: bool) -> None:
    batch_id = insert_batch(database, 10)
    write_results(
        database, batch_id, [(place, "out_of_memory" if place < 3 else {"label": "A"}) for place in range(10)]
    )
    end_batch(database, batch_id)

    page = visit(own_address, java_script_enabled=with_scripts).open(f"/batches/{batch_id}")
    page.get_by_role("link", name="Retry these").click()
    scope = page.locator("#dialog") if with_scripts else page.locator("main")
    expect(scope).to_contain_text("3 jobs")
    scope.get_by_role("button", name=re.compile("Retry")).click()

    expect(page.locator("main")).to_contain_text("in progress")
    assert f"/batches/{batch_id}" in page.url


def test_a_dialog_works_with_the_keyboard_alone(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 4)

    page = visit(own_address).open(f"/batches/{batch_id}")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.get_by_role("link", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_visible()
    page.wait_for_function("document.getElementById('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")

    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()


def test_a_forged_action_is_refused(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 4)

    visited = visit(own_address)
    visited.expected = ["403"]
    page = visited.open(f"/batches/{batch_id}/cancel")
    page.locator("main input[name=csrf_token]").evaluate("(field) => { field.value = 'forged'; }")
    page.locator("main form button").first.click()

    expect(page.locator("main")).to_contain_text("403")
    with database.read() as connection:
        assert connection.execute(text("SELECT status FROM batches")).scalar_one() == "in_progress"


def test_an_id_is_copied_without_a_secure_context(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 4)

    visited = visit(own_address)
    visited.page.clock.install()
    page = visited.open(f"/batches/{batch_id}")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    stop_clock(page)
    page.get_by_role("button", name="Copy id").click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
