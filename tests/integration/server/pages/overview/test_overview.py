"""The first page over both databases: numbers, what needs attention, and what a tenant sees."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.states import BatchStatus
from producer.server.pages.overview.glance import Glance
from tests import fake_worker
from tests.factories.activity_rows import add_minute, work
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.hostile import HOSTILE, assert_shown_as_text
from tests.factories.http_server import client_over
from tests.servers import wait_until

PIPELINE = "sample-sentiment-analysis"


@contextmanager
def page_client(database: Database, url: str, **settings: Any) -> Iterator[TestClient]:
    with client_over(database, url, **settings) as client:
        client.base_url = "http://127.0.0.1:8000"
        yield client


def get_page(database: Database, url: str, path: str = "/", **settings: Any) -> str:
    with page_client(database, url, **settings) as client:
        response = client.get(path)
    assert response.status_code == 200, response.text
    return response.text


def glance(database: Database, url: str, tenant: str | None = None) -> Glance:
    with page_client(database, url) as client:
        return Glance(client.app.state.context, tenant)  # type: ignore[attr-defined]


def test_an_empty_system_says_how_to_begin(database: Database, database_url: str) -> None:
    page = get_page(database, database_url)

    assert "Three steps to the first result" in page
    assert "batchmill up" in page


def test_numbers_of_the_last_hour(database: Database, database_url: str) -> None:
    batch_id = insert_batch(database, 4, pipeline=PIPELINE, name="monday")
    fake_worker.write_results(database, batch_id, [(0, [{"label": "A", "score": 0.5}]), (1, "empty_text")])
    add_minute(database, work(PIPELINE, 2990, ("empty_text", 10)), age_minutes=3)

    page = get_page(database, database_url)

    assert "3,000 <span" in page
    assert "0.3 %" in page
    assert "data-chart" in page
    assert "monday has 1 failed of 4 jobs" in page
    assert f"/batches/{batch_id}?code=empty_text#failures" in page


def test_why_nothing_moves(database: Database, database_url: str) -> None:
    batch_id = insert_batch(database, 4, pipeline=PIPELINE)

    page = get_page(database, database_url)

    assert f"no worker serves {PIPELINE}, and 4 jobs wait for it" in page
    assert f'<a href="/batches/{batch_id}">Waits</a>: no worker serves' in page


def test_a_batch_that_no_worker_can_run_is_not_well(database: Database, database_url: str) -> None:
    """A worker serves its pipeline, but with another revision than the one with which it began."""
    batch_id = insert_batch(database, 4, pipeline=PIPELINE, revision="abc")
    fake_worker.register_worker(database, PIPELINE)
    execute(database, "UPDATE workers SET revision = 'xyz', state = 'ready'")

    page = get_page(database, database_url)

    assert "All is well" not in page
    assert f"the oldest batch of {PIPELINE} does not run: it waits for a worker with revision abc" in page
    assert f'href="/batches/{batch_id}"' in page


def test_redis_that_does_not_answer_is_not_well(database: Database, database_url: str) -> None:
    insert_batch(database, 1)
    with page_client(database, database_url) as client:
        context = client.app.state.context  # type: ignore[attr-defined]
        client.get("/")
        wait_until(lambda: context.redis.trouble() is not None, "the check of Redis")
        page = client.get("/").text
        tenants = Glance(context, "acme").attention

    assert "does not answer" in page
    assert 'href="/doctor"' in page
    assert tenants == []  # Redis is the operator's


def test_rows_that_were_invalid_are_told_where_no_worker_failed(database: Database, database_url: str) -> None:
    batch_id = insert_batch(database, 2, name="monday")
    execute(database, "UPDATE batches SET failed = 1 WHERE id = :id", id=batch_id)

    page = get_page(database, database_url)

    assert "No job failed on a worker in the last hour" in page
    assert f'<a href="/batches/{batch_id}#failures"><bdi>monday</bdi></a> (1 failed)' in page


def test_a_name_does_not_turn_the_text_around(database: Database, database_url: str) -> None:
    batch_id = insert_batch(database, 2, name="\u202eabc", pipeline="p\u202ep")
    fake_worker.write_results(database, batch_id, [(0, "model_error")])
    add_minute(database, work("p\u202ep", 3, ("model\u202e", 2)))

    page = get_page(database, database_url)

    assert "\u202e" not in page
    assert "⟨U+202E⟩abc" in page


def test_all_is_well(database: Database, database_url: str) -> None:
    batch_id = insert_batch(database, 1)
    fake_worker.write_results(database, batch_id, [(0, [{"label": "A", "score": 0.5}])])
    fake_worker.end_batch(database, batch_id)

    page = get_page(database, database_url, redis_url=None)

    assert "All is well" in page
    assert "No worker answered a job in the last hour" in page
    assert "Nothing waits" in page


def test_invalid_rows_are_no_failures_of_a_worker(database: Database, database_url: str) -> None:
    batch_id = insert_batch(database, 2, name="small")
    fake_worker.write_results(database, batch_id, [(0, "empty_text")])

    page = get_page(database, database_url)

    assert "small has 1 failed of 2 jobs" in page
    assert "No job failed on a worker in the last hour." in page
    assert "Rows that were invalid when submitted never reach a worker." in page


def test_a_tenant_sees_its_own_numbers_and_no_hosts(database: Database, database_url: str) -> None:
    add_minute(database, work(PIPELINE, 7, ("model_error", 2), tenant="acme"))
    add_minute(database, work("secret-pipeline", 5000, ("secret_code", 9), tenant="other"))
    for tenant in ("acme", "other"):
        batch_id = insert_batch(database, 4, tenant=tenant, name=f"of {tenant}")
        fake_worker.write_results(database, batch_id, [(0, "model_error")])
    fake_worker.register_worker(database, PIPELINE, heartbeat_age_seconds=9999.0)

    ours, all_of_it = (glance(database, database_url, tenant) for tenant in ("acme", None))

    assert (ours.throughput.jobs, all_of_it.throughput.jobs) == (9, 5018)
    assert [failure["count"].error_code for failure in ours.failures] == ["model_error"]
    assert (ours.unanswered_jobs, all_of_it.unanswered_jobs) == (3, 6)
    assert [batch.name for batch in ours.newest] == ["of acme"]
    messages = [item.message for item, _ in ours.attention]
    assert any("of acme" in message for message in messages)
    assert not any("other" in message or "here" in message for message in messages)
    assert any(item.subject == "workers" for item, _ in all_of_it.attention)


def test_hostile_texts_are_escaped_and_cut(database: Database, database_url: str) -> None:
    hostile = HOSTILE.replace("\n", " ")
    batch_id = insert_batch(
        database, 2, name=hostile, pipeline=hostile, error_message=hostile, metadata_={"a": hostile}
    )
    fake_worker.write_results(database, batch_id, [(0, hostile)])
    failed = insert_batch(database, 1, name=hostile, pipeline=hostile, error_code=hostile)
    fake_worker.end_batch(database, failed, BatchStatus.FAILED)
    add_minute(database, work(hostile, 3, (hostile, 2)))
    fake_worker.register_worker(database, hostile)
    execute(database, "UPDATE workers SET host = :text, device = :text, model = :text, revision = :text", text=hostile)
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM load_failures")

    for path in ("/", "/workers", "/pipelines"):
        page = get_page(database, database_url, path)
        assert_shown_as_text(page)
        assert "x" * 600 not in re.sub(r'href="[^"]*"', "", page), path


@pytest.mark.parametrize("part", ["facts", "attention", "throughput", "backlog", "failures", "workers", "newest"])
def test_each_part_renders_alone(database: Database, database_url: str, part: str) -> None:
    """As the stream of the page sends it."""
    from producer.server.pages.frame.rendering import environment
    from producer.server.pages.live.parts import audience_of
    from producer.tenants.principal import OPERATOR

    insert_batch(database, 4, pipeline=PIPELINE)
    add_minute(database, work(PIPELINE, 7, ("model_error", 2)))
    fake_worker.register_worker(database, PIPELINE)

    with page_client(database, database_url) as client:
        shown = Glance(client.app.state.context, None)  # type: ignore[attr-defined]
        text = environment().get_template(f"overview/_{part}.html").render(glance=shown, visitor=audience_of(OPERATOR))

    assert text.strip()


def test_of_many_workers_the_first_are_shown_and_all_are_summed_up(database: Database, database_url: str) -> None:
    insert_batch(database, 1)
    for number in range(9):
        fake_worker.register_worker(database, f"pipeline-{number}", heartbeat_age_seconds=float(number))
    fake_worker.register_worker(database, "a-gone-one", heartbeat_age_seconds=9999.0)

    page = get_page(database, database_url)

    assert "9 ready, 1 gone, 1 device. The first 8:" in page
    assert "All 10 workers</a>" in page
    assert "pipeline-7" in page
    assert ">pipeline-8<" not in page
    assert ">a-gone-one<" not in page, "those that are gone come last"
