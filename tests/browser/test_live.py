"""Pages that follow what happens, and what they say when they can't."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from playwright.sync_api import Page, expect
from sqlalchemy import delete, insert

from models.db import Database
from models.tables.batches import Batch
from models.tables.service import Activity
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.browser.conftest import OpenVisit
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.schedules import insert_run
from tests.fake_worker import end_batch, register_worker, write_results

HIDE = """
(isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""
ANSWER = {"label": "POSITIVE", "score": 0.9}


def answers(count: int, first: int = 0) -> list[tuple[int, object]]:
    """Return results for the jobs from `first`."""
    return [(first + place, ANSWER) for place in range(count)]


def wait_for_stream(page: Page) -> None:
    """Wait until the page has an open stream."""
    expect(page.locator("[data-live-state]")).to_have_attribute("data-live-state", "open")


def test_a_batch_is_watched_to_its_end_without_a_reload(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 8, name="reviews")

    page = visit(own_address).open(f"/batches/{batch_id}")
    wait_for_stream(page)
    page.evaluate("window.isSamePage = true")
    write_results(database, batch_id, answers(4))
    expect(page.locator("[data-live=progress]")).to_contain_text("50.0 %")
    expect(page.locator("#results tbody tr")).to_have_count(4)
    write_results(database, batch_id, answers(4, first=4))
    end_batch(database, batch_id)
    expect(page.locator("[data-live=progress]")).to_contain_text("completed")
    expect(page.locator("[data-live=actions]")).to_contain_text("Delete")
    expect(page.locator("#results tbody tr")).to_have_count(8)
    expect(page.locator("#rows-outcome")).to_contain_text("succeeded (8)")
    expect(page.locator("[data-live-results]")).to_be_hidden()

    assert page.evaluate("window.isSamePage")


def test_rows_that_somebody_chose_stay(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 8)
    write_results(database, batch_id, answers(2))

    page = visit(own_address).open(f"/batches/{batch_id}")
    wait_for_stream(page)
    page.locator("#rows-outcome").select_option("unanswered")
    expect(page.locator("#results tbody tr")).to_have_count(6)
    write_results(database, batch_id, answers(6, first=2))
    end_batch(database, batch_id)

    expect(page.locator("[data-live-results]")).to_contain_text("6 new results")
    expect(page.locator("#results tbody tr")).to_have_count(6)


def test_a_menu_closes_by_escape_and_by_a_click_elsewhere(
    database: Database, own_address: str, visit: OpenVisit
) -> None:
    batch_id = insert_batch(database, 2)
    write_results(database, batch_id, answers(2))
    end_batch(database, batch_id)

    page = visit(own_address).open(f"/batches/{batch_id}")
    menu = page.locator("details.menu")
    menu.locator("summary").click()
    expect(menu).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    menu.locator("summary").click()
    page.locator("h1").click()

    expect(menu).not_to_have_attribute("open", "")


def test_what_the_reader_opened_and_focused_stays(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 8)
    write_results(database, batch_id, answers(2))

    page = visit(own_address).open(f"/batches/{batch_id}")
    wait_for_stream(page)
    menu = page.locator("[data-live=actions] details.menu")
    menu.locator("summary").click()
    write_results(database, batch_id, answers(6, first=2))
    end_batch(database, batch_id)
    expect(page.locator("[data-live=actions]")).to_contain_text("Delete")

    assert menu.evaluate("(element) => element.open")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_the_list_and_the_overview_follow(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 4, name="reviews")

    batch_list, overview = visit(own_address).open("/batches"), visit(own_address).open("/")
    wait_for_stream(batch_list)
    wait_for_stream(overview)
    write_results(database, batch_id, [*answers(3), (3, "out_of_memory")])
    end_batch(database, batch_id)
    expect(batch_list.locator(f"[data-live=row-{batch_id}]")).to_contain_text("completed")
    expect(overview.locator("[data-live=newest]")).to_contain_text("completed")
    insert_batch(database, 1)
    expect(batch_list.locator("[data-live-new]")).to_contain_text("1 new batch")


def test_schedules_and_workers_follow(database: Database, own_address: str, visit: OpenVisit) -> None:
    fields = {"pipeline": "reviews", "cron": "0 2 * * *", "file": "in/{time:%Y-%m-%d}.jsonl"}
    registry.create(database, ScheduleDefinition.from_fields("nightly", fields), datetime.now(UTC))

    schedules, workers = visit(own_address).open("/schedules?name=night"), visit(own_address).open("/workers")
    one = visit(own_address).open("/schedules/nightly")
    for page in (schedules, workers, one):
        wait_for_stream(page)
    registry.suspend(database, "nightly", datetime.now(UTC))
    register_worker(database, "reviews")
    expect(schedules.locator("[data-live=list]")).to_contain_text("suspended")
    expect(one.locator("[data-live=notices]")).to_contain_text("No run starts until it is resumed")
    expect(workers.locator("[data-live=processes]")).to_contain_text("here · pid 7")


def test_a_run_and_a_pipeline_follow(database: Database, own_address: str, visit: OpenVisit) -> None:
    name, fields = "sample-sentiment-analysis", {"cron": "0 2 * * *", "file": "in/{time:%Y-%m-%d}.jsonl"}
    definition = ScheduleDefinition.from_fields("nightly", {"pipeline": name, **fields})
    registry.create(database, definition, datetime.now(UTC))
    insert_run(database, "nightly", datetime(2026, 3, 4, 2, tzinfo=UTC), state="running", finished_at=None)

    run = visit(own_address).open("/schedules/nightly/runs/2026-03-04T02:00Z")
    pipeline = visit(own_address).open(f"/pipelines/{name}")
    for page in (run, pipeline):
        wait_for_stream(page)
    expect(run.locator("[data-live=notices]")).to_contain_text("follows the run until it ends")
    execute(database, "UPDATE runs SET state = 'failed', error_message = 'the file is not there'")
    register_worker(database, name)
    expect(run.locator("[data-live=notices]")).to_contain_text("the file is not there")
    expect(run.locator("[data-live=actions]")).to_contain_text("Run this time again")
    expect(pipeline.locator("[data-live=serving]")).to_contain_text("here · pid 7")


def test_a_lost_connection_is_said_and_found_again(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 8)

    visited = visit(own_address)
    visited.expected = [
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED",
        "ERR_EMPTY_RESPONSE",
        "ERR_ABORTED",
        "Failed to fetch",
    ]
    page = visited.open(f"/batches/{batch_id}")
    wait_for_stream(page)
    with cut_off(page):
        expect(page.locator("#stale")).to_contain_text(re.compile(r"Data as of \d\d:\d\d:\d\d; trying again"))
        expect(page.locator("body")).to_have_class(re.compile("is-stale"))
        write_results(database, batch_id, answers(4))
    expect(page.locator("#stale")).to_be_hidden()
    expect(page.locator("[data-live=progress]")).to_contain_text("50.0 %")


def test_a_page_without_live_parts_says_so_too(own_address: str, visit: OpenVisit) -> None:
    visited = visit(own_address)
    visited.expected = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE", "ERR_ABORTED"]
    visited.expected += ["ERR_INTERNET_DISCONNECTED", "Failed to fetch"]

    page = visited.open("/submit")
    wait_for_stream(page)
    page.evaluate("window.isSamePage = true")
    with cut_off(page):
        expect(page.locator("#stale")).to_contain_text(re.compile(r"Data as of \d\d:\d\d:\d\d; trying again"))
    expect(page.locator("#stale")).to_be_hidden()

    assert page.evaluate("window.isSamePage")


@contextmanager
def cut_off(page: Page) -> Iterator[None]:
    """Let the page have no network while the block runs."""
    page.context.set_offline(True)
    page.evaluate("live.source?.dispatchEvent(new Event('error'))")  # Chromium leaves open streams alone
    yield
    page.context.set_offline(False)


def test_no_action_is_sent_while_the_connection_is_lost(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 8)

    visited = visit(own_address)
    visited.expected = ["ERR_INTERNET_DISCONNECTED", "Failed to fetch"]
    page = visited.open(f"/batches/{batch_id}")
    wait_for_stream(page)
    page.get_by_role("link", name="Cancel").click()
    dialog = page.locator("#dialog")
    expect(dialog).to_be_visible()
    with cut_off(page):
        expect(page.locator("body")).to_have_class(re.compile("is-stale"))
        dialog.locator("button").first.click()
        expect(dialog.get_by_role("alert")).to_contain_text("Nothing was sent")
        expect(page.get_by_role("alert")).to_have_count(1)
        expect(dialog).to_be_visible()


def test_an_error_of_the_connection_is_shown_once_and_only_for_what_somebody_asked(
    own_address: str, visit: OpenVisit
) -> None:
    visited = visit(own_address)
    visited.expected = ["ERR_INTERNET_DISCONNECTED", "Failed to fetch"]
    page = visited.open("/doctor")
    expect(page.locator("#findings .panel").first).to_contain_text("Fine")
    with cut_off(page):
        page.evaluate("htmx.ajax('GET', '/doctor', { source: '#main' }).catch(() => null)")
        expect(page.get_by_role("alert")).to_have_count(0)
        page.get_by_role("link", name="Check again").click()
        expect(page.get_by_role("alert")).to_have_text(
            "The server could not be reached, so nothing was done. Try again."
        )


def test_a_deleted_batch_says_so(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 1)

    page = visit(own_address).open(f"/batches/{batch_id}")
    wait_for_stream(page)
    with database.write() as connection:
        connection.execute(delete(Batch).where(Batch.id == batch_id))
    expect(page.locator("#stale")).to_contain_text("was deleted")


def test_a_session_that_ends_closes_its_pages(database: Database, own_address: str, visit: OpenVisit) -> None:
    key = keys.create_key(database, KeyRequest(None, tuple(Scope)))

    visited = visit(own_address)
    visited.expected = ["401", "403"]
    page = visited.open("/")
    expect(page).to_have_url(re.compile("/login"))
    page.get_by_label("API key").fill(key.text)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{own_address}/")
    wait_for_stream(page)
    other = page.context.new_page()
    other.goto(f"{own_address}/batches")
    other.get_by_role("button", name="Sign out").click()
    expect(other).to_have_url(re.compile("/login"))
    other.close()
    page.evaluate("live.source.dispatchEvent(new Event('error'))")
    expect(page.locator("#stale")).to_contain_text("Your session has ended")
    expect(page.locator("#stale a")).to_have_attribute("href", re.compile("^/login"))


def test_hidden_pages_hold_no_connection(database: Database, own_address: str, visit: OpenVisit) -> None:
    page = visit(own_address).open("/")
    wait_for_stream(page)
    page.evaluate(HIDE, True)
    assert page.evaluate("live.source === null")
    page.evaluate(HIDE, False)
    assert page.evaluate("live.source !== null")


def test_charts_are_drawn_from_their_tables(database: Database, own_address: str, visit: OpenVisit) -> None:
    batch_id = insert_batch(database, 1, pipeline="reviews")
    minute = int(time.time()) // 60
    with database.write() as connection:
        for place in range(1, 30):
            values = {"minute": minute - place, "worker_id": "w", "tenant": "default", "error_code": "", "jobs": 60}
            connection.execute(insert(Activity).values(**values, pipeline="reviews"))

    page = visit(own_address).open("/")
    wait_for_stream(page)
    figure = page.locator("figure[data-chart]").first
    expect(figure.locator("canvas")).to_be_visible()
    write_results(database, batch_id, answers(1))  # the part is replaced, the plot is not
    expect(page.locator("[data-live=facts]")).to_contain_text("0 jobs")
    assert figure.locator("details").evaluate("(element) => !element.open")
    figure.locator(".u-over").hover()
    expect(figure.locator("[data-chart-value]").first).to_contain_text("jobs per minute")
