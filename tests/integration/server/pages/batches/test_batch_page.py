"""The page of one batch: in every status, with failures, guards and hostile content, and only for its tenant."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import error_catalogue
from models.db import Database
from models.errors import NotFound
from models.guards.definition import Guard
from models.settings import Settings
from models.states import BatchStatus
from producer.server.pages.batches import batch_parts
from producer.server.pages.live.page_parts import PAGES
from producer.tenants.principal import Principal, Scope
from producer.uploads import files
from producer.uploads.files import NewFile
from producer.uploads.storage.store import open_store
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.factories.hostile import HOSTILE, HOSTILE_NAME
from tests.factories.http_server import client_over
from tests.factories.page_clients import assert_harmless

NOW = datetime.now(UTC)


@pytest.fixture
def pages(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        yield client


def text_of(pages: TestClient, address: str, status: int = 200) -> str:
    """Return a page without tags, with single blanks."""
    response = pages.get(address)
    assert response.status_code == status
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


def test_a_batch_that_runs_says_how_far_it_is(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 40, name="nightly", created_at=datetime.now(UTC), metadata_={"team": "growth"})
    fake_worker.write_results(
        database, batch_id, [*((place, {"label": "A", "score": 0.9}) for place in range(9)), (9, "empty_text")]
    )

    text = text_of(pages, f"/batches/{batch_id}")

    assert "nightly" in text
    assert "in progress 25.0 %" in text
    assert "succeeded 9 failed 1 unanswered 30 jobs in all 40" in text
    assert "Waiting: no worker serves reviews now" in text
    assert "team growth" in text
    assert "Of all 10 results." in text
    assert f'data-copy="{batch_id}"' in pages.get(f"/batches/{batch_id}").text


@pytest.mark.parametrize("jobs", [0, 3])
def test_a_batch_in_any_status_has_a_page(pages: TestClient, database: Database, jobs: int) -> None:
    for status in BatchStatus:
        check_page_in_status(pages, database, status, jobs)


def check_page_in_status(pages: TestClient, database: Database, status: BatchStatus, jobs: int) -> None:
    batch_id = insert_batch(database, 3, created_at=datetime.now(UTC), status=status.value)
    update_batch(database, batch_id, total=jobs)
    if jobs:
        fake_worker.write_results(database, batch_id, [(0, {"label": "A"}), (1, "model_error")])

    html = pages.get(f"/batches/{batch_id}").text

    assert status.value.replace("_", " ") in html or status is BatchStatus.DELETING
    has_ended = status.has_ended
    assert (f"/batches/{batch_id}/delete" in html) is has_ended
    assert (f"/batches/{batch_id}/retry?code=model_error" in html) is (has_ended and jobs > 0)
    assert (f"/batches/{batch_id}/cancel" in html) is (status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS))
    assert ("is being deleted" in html) is (status is BatchStatus.DELETING)


def test_outputs_of_any_own_task_have_a_page(pages: TestClient, database: Database) -> None:
    def page_of(*outputs: Any) -> str:
        batch_id = insert_batch(database, len(outputs), created_at=NOW)
        fake_worker.write_results(database, batch_id, list(enumerate(outputs)))
        return text_of(pages, f"/batches/{batch_id}")

    assert "0.500" in page_of(0.5, 0.5)
    assert "Of all 2 results." in page_of({"score": 1e308}, {"score": -1e308})
    assert "1e+308" in page_of({"score": 1e308}, {"score": 1e308}, {"score": 1e308})
    assert "Vectors of 3 numbers." in page_of([0.1, 0.2, 0.3])
    assert "Length median 1 character, 1 word" in page_of({"generated_text": "x"})


def test_results_that_nobody_computed_have_no_pace(pages: TestClient, database: Database) -> None:
    reused, waiting = (insert_batch(database, 2, created_at=NOW) for _ in range(2))
    fake_worker.write_results(database, reused, [(0, {"label": "A"}), (1, {"label": "A"})])
    fake_worker.end_batch(database, reused)
    update_batch(database, reused, reused=2)

    ended = text_of(pages, f"/batches/{reused}")

    assert "No job of this batch was computed by a worker, so there is no pace to draw: 2 results were reused." in ended
    assert "The pace appears here" not in ended
    assert "The pace appears here seconds after the first results" in text_of(pages, f"/batches/{waiting}")


def test_a_pause_is_named_and_not_drawn(pages: TestClient, database: Database) -> None:
    now = datetime.now(UTC)
    batch_id = insert_batch(database, 40, created_at=now)
    fake_worker.write_results(database, batch_id, [(place, {"label": "A"}) for place in range(40)])
    times = [now + timedelta(days=-19 if place < 30 else 0, seconds=place) for place in range(40)]
    for place, moment in enumerate(times):
        execute(
            database,
            "UPDATE results SET slice_id = 1, finished_at = :time WHERE position = :position",
            time=moment.replace(tzinfo=None).isoformat(" ") if database.url.startswith("sqlite") else moment,
            position=place,
        )

    text = text_of(pages, f"/batches/{batch_id}")

    assert "Not drawn: a pause of 19 d from" in text


def test_jobs_that_did_not_run_can_run(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 5, created_at=datetime.now(UTC), status="cancelled", cancelled=3, expired=1)
    address = f"/batches/{batch_id}/retry"

    html = pages.get(f"/batches/{batch_id}").text

    assert f'href="{address}?outcome=cancelled&amp;outcome=expired"' in html
    assert f'href="{address}"' not in html


def test_failures_are_grouped_with_advice_and_actions(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 5, created_at=datetime.now(UTC))
    codes = ["empty_text", "out_of_memory", "empty_text", "own code/1"]
    fake_worker.write_results(database, batch_id, list(enumerate(codes)))
    fake_worker.end_batch(database, batch_id)
    mark_invalid(database, batch_id, "0, 2")

    html = pages.get(f"/batches/{batch_id}").text
    text = text_of(pages, f"/batches/{batch_id}")

    assert "4 jobs failed" in text
    assert text.index("empty_text") < text.index("out_of_memory")
    assert f'href="/batches/{batch_id}/rows/1"' in html
    assert f"/batches/{batch_id}/results?outcome=failed&amp;code=own%20code/1" in html
    assert f"/batches/{batch_id}/retry?code=out_of_memory" in html
    assert f"/batches/{batch_id}/retry?code=empty_text" not in html
    assert f'data-copy="batchmill submit --repair {batch_id} errors.jsonl"' in html
    assert "text 1" in text
    assert "No retry helps 2 rows." in text
    assert f'href="/batches/{batch_id}/retry"' in html
    assert f'href="/batches/{batch_id}/retry?outcome=failed"' in html


def test_a_code_of_rows_and_of_jobs_has_both_remedies(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 4, created_at=datetime.now(UTC))
    fake_worker.write_results(database, batch_id, [(place, "text_too_long") for place in range(4)])
    fake_worker.end_batch(database, batch_id)
    mark_invalid(database, batch_id, "0, 1, 2")

    html = pages.get(f"/batches/{batch_id}").text
    rows = pages.get(f"/batches/{batch_id}/results?code=text_too_long").text

    assert html.count("Retry these") == 1  # of the jobs that ran
    assert html.count("Repair these") == 2  # another input helps both
    assert "text 3" in text_of(pages, f"/batches/{batch_id}").split("Retry these")[0]
    assert "Retry these" in rows


def test_invalid_rows_alone_are_repaired_and_not_retried(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2, created_at=datetime.now(UTC))
    fake_worker.write_results(database, batch_id, [(0, "empty_text"), (1, "not_text")])
    fake_worker.end_batch(database, batch_id)
    mark_invalid(database, batch_id, "0, 1")

    html = pages.get(f"/batches/{batch_id}").text
    rows = pages.get(f"/batches/{batch_id}/results?outcome=failed").text
    dialog = pages.get(f"/batches/{batch_id}/retry").text

    assert "/retry" not in html
    assert "/retry" not in rows
    assert html.count(f'href="/batches/{batch_id}/repair">Repair rows</a>') == 2
    assert f'href="/batches/{batch_id}/repair?code=empty_text">Repair these</a>' in html
    assert f'data-copy="batchmill errors {batch_id} -o errors.jsonl"' in html
    assert f'data-copy="batchmill errors {batch_id} -o errors.jsonl"' in dialog


def mark_invalid(database: Database, batch_id: str, positions: str) -> None:
    execute(
        database,
        f"UPDATE jobs SET invalid = :yes WHERE batch_id = :id AND position IN ({positions})",
        yes=True,
        id=batch_id,
    )
    execute(
        database, f"UPDATE results SET attempts = 0 WHERE batch_id = :id AND position IN ({positions})", id=batch_id
    )


def test_very_many_failures_are_counted_on_demand(
    pages: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_parts, "MAX_COUNTED", 2)
    batch_id = insert_batch(database, 5, created_at=datetime.now(UTC))
    fake_worker.write_results(database, batch_id, [(place, "empty_text") for place in range(5)])

    html = pages.get(f"/batches/{batch_id}").text
    exact = text_of(pages, f"/batches/{batch_id}/failures")
    part = pages.get(f"/batches/{batch_id}/failures", headers={"hx-request": "true"}).text

    assert "Counted from the first 2 failures" in html
    assert f'href="/batches/{batch_id}/failures"' in html
    assert "at least" not in exact
    assert "5 100 %" in exact
    assert "<html" not in part
    assert part.lstrip().startswith("<section")


def test_a_batch_that_failed_says_why_and_shows_its_lines(pages: TestClient, database: Database) -> None:
    lines = [
        {"line": place, "code": "invalid_json", "message": f"bad {place}", "param": None} for place in range(1, 131)
    ]
    batch_id = insert_batch(database, 1, created_at=datetime.now(UTC))
    update_batch(
        database,
        batch_id,
        status="failed",
        total=0,
        error_code="invalid_rows",
        error_message="130 lines are no jobs",
        input_errors=lines,
    )

    text = text_of(pages, f"/batches/{batch_id}")

    assert "130 lines are no jobs" in text
    assert "The first 100 of 130." in text
    assert "bad 100" in text
    assert "bad 101" not in text


def test_guards_and_sources_have_links(pages: TestClient, database: Database) -> None:
    guard = Guard(on="input", words=("x",), action="flag")
    source_id = insert_batch(database, 1, created_at=datetime.now(UTC))
    batch_id = insert_batch(
        database, 2, created_at=datetime.now(UTC), guards={"pii": guard}, guarded=True, source_batch_id=source_id
    )
    execute(database, "UPDATE batch_guards SET passed = 1, flagged = 7")

    html = pages.get(f"/batches/{batch_id}").text

    assert f'href="/batches/{batch_id}/results?verdict=flagged">7</a>' in html
    assert f'href="/batches/{source_id}"' in html
    assert f'href="/batches/{batch_id}"' in pages.get(f"/batches/{source_id}").text


def test_attempts_that_failed_are_listed(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 4, created_at=datetime.now(UTC))
    execute(
        database,
        """INSERT INTO attempts (batch_id, slice_id, start_position, end_position, attempt, fencing_token, worker_id,
           outcome, error_code, error_message)
           VALUES (:id, 1, 0, 4, 1, 1, 'gpu1:0', 'crashed', 'worker_crashed', :text)""",
        id=batch_id,
        text=HOSTILE_NAME,
    )

    html = pages.get(f"/batches/{batch_id}").text

    assert "Attempts that failed or were retried" in html
    assert "gpu1:0" in html
    assert "<script>alert" not in html


def test_hostile_content_is_text_and_bounded(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(
        database,
        [{"text": HOSTILE}, {"text": "fine"}],
        created_at=datetime.now(UTC),
        name=HOSTILE,
        pipeline=HOSTILE_NAME,
        metadata_={HOSTILE_NAME: HOSTILE},
        parameters={HOSTILE_NAME: HOSTILE},
        error_code=HOSTILE_NAME,
        error_message=HOSTILE,
    )
    fake_worker.write_results(database, batch_id, [(0, HOSTILE_NAME), (1, {"label": HOSTILE, "score": 0.5})])
    execute(database, "UPDATE results SET error_message = :text WHERE status = 'failed'", text=HOSTILE)
    execute(database, "UPDATE jobs SET custom_id = :text WHERE position = 0", text=HOSTILE)

    response = pages.get(f"/batches/{batch_id}")

    assert response.status_code == 200
    assert_harmless(response.text)
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;alert(1)" in response.text
    assert len(response.text) < 60_000
    assert " style=" not in response.text
    assert " onclick=" not in response.text
    assert "unsafe" not in response.headers["content-security-policy"]


def test_outputs_of_any_shape_have_a_page(pages: TestClient, database: Database) -> None:
    outputs: list[Any] = [None, [], {}, 5, "text", [[{"x": []}]], {"label": None}, {"labels": [], "scores": []}, [None]]
    batch_id = insert_batch(database, len(outputs), created_at=datetime.now(UTC))
    fake_worker.write_results(database, batch_id, [(place, {"wrapped": o}) for place, o in enumerate(outputs)])
    execute(database, "UPDATE results SET output = 'null' WHERE position = 0")

    assert pages.get(f"/batches/{batch_id}").status_code == 200


def test_others_do_not_exist_for_a_tenant(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2, tenant="acme", model="/srv/models/mine", created_at=datetime.now(UTC))
    context = pages.app.state.context  # type: ignore[attr-defined]
    owner = Principal("acme", frozenset({Scope.READ}))

    batch = context.get_batch(owner, batch_id)
    facts = batch_parts.facts_values(context, owner, batch)
    progress = batch_parts.progress_values(context, owner, batch)

    assert facts["document"]["model"] == "mine"
    assert [blocker["message"] for blocker in progress["blockers"]] == [
        "no worker serves reviews now; the operator has to start one"
    ]
    with pytest.raises(NotFound):
        PAGES["batch"].open(context, Principal("other", frozenset({Scope.READ})), batch_id)


@pytest.mark.parametrize("address", ["/batches/batch_nope", "/batches/batch_nope/failures", "/batches/%00"])
def test_unknown_batches_are_not_found(pages: TestClient, address: str) -> None:
    assert pages.get(address, headers={"accept": "text/html"}).status_code == 404


def test_a_deadline_that_is_missed_is_announced(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 500, created_at=datetime.now(UTC), slice_size=250)
    fake_worker.write_results(database, batch_id, [(place, {}) for place in range(60)])
    execute(
        database,
        f"""UPDATE slices SET state = 'leased', worker_id = 'w', leased_at = {database.sql.seconds_from_now(-60)},
            lease_expires_at = {database.sql.seconds_from_now(600)} WHERE start_position = 0""",
    )
    execute(
        database, f"UPDATE results SET finished_at = {database.sql.now_plus_seconds.replace(':seconds', 'seq - 61')}"
    )
    update_batch(database, batch_id, expires_at=datetime.now(UTC) + timedelta(minutes=5))  # the rest takes seven

    text = text_of(pages, f"/batches/{batch_id}")

    assert "At this pace it does not end before its deadline" in text
    assert "Pace now 1.0 jobs/s" in text


def save_source(database: Database, settings: Settings) -> str:
    """Save an uploaded file of 4 lines, and return its id."""
    with open_store(settings).create() as writer:
        writer.write(b'{"text": "a"}\n' * 4)
        stored = writer.commit()
    return files.save_file(database, settings, NewFile("rows.jsonl", stored=stored)).id


@pytest.mark.parametrize(("accepted_at", "is_cut_off"), [(None, True), (NOW, False)])
def test_a_batch_that_was_cancelled_while_it_was_read_looks_incomplete(
    pages: TestClient, database: Database, accepted_at: datetime | None, is_cut_off: bool
) -> None:
    file_id = save_source(database, pages.app.state.context.settings)  # type: ignore[attr-defined]
    fields = {"status": "cancelled", "cancelled": 2, "rows_read": 2, "input_file_id": file_id}
    batch_id = insert_batch(database, 2, created_at=NOW, in_progress_at=accepted_at, cancelled_at=NOW, **fields)

    html = pages.get(f"/batches/{batch_id}").text
    dialog = pages.get(f"/batches/{batch_id}/retry?outcome=cancelled").text

    assert ("cancelled while its rows were being read (2 of about 4)" in html) is is_cut_off
    assert (f'href="/submit/files/{file_id}?pipeline=reviews">Submit the file again' in html) is is_cut_off
    assert ("Run the cancelled jobs" in html) is not is_cut_off
    assert ("Only the first 2 jobs can run again" in dialog) is is_cut_off


def test_a_batch_that_its_rows_rejected_leads_back_to_its_file(pages: TestClient, database: Database) -> None:
    file_id = save_source(database, pages.app.state.context.settings)  # type: ignore[attr-defined]
    fields = {"status": "failed", "error_code": "invalid_rows", "error_message": "line 3", "input_file_id": file_id}
    batch_id = insert_batch(database, 1, total=0, created_at=NOW, failed_at=NOW, **fields)

    html = pages.get(f"/batches/{batch_id}").text
    execute(database, "UPDATE files SET deleted_at = created_at")
    without = pages.get(f"/batches/{batch_id}").text

    assert f'href="/submit/files/{file_id}?pipeline=reviews&amp;on_invalid=fail-row"' in html
    assert f"/submit/files/{file_id}" not in without


def test_advice_has_no_marks_of_a_command_line() -> None:
    explanations = [*error_catalogue.JOBS.values(), *error_catalogue.BATCHES.values()]

    assert not [text for item in explanations for text in (item.cause, item.advice) if "`" in text or "--" in text]
