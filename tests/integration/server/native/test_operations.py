"""Workers, the doctor and audits over HTTP, for those who may see them."""

from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.health import doctor
from producer.server.native.operations import checks, objects
from producer.tenants.principal import Scope
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import client_over, key_headers
from tests.servers import WAIT_TIMEOUT_SECONDS


@pytest.fixture
def client(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        yield client


def test_workers_are_listed_for_admins_alone(client: TestClient, database: Database) -> None:
    reader, admin = key_headers(database, "a", Scope.READ), key_headers(database, "a", Scope.ADMIN)

    assert client.get("/api/workers", headers=reader).status_code == 403
    assert client.get("/api/workers", headers=admin).json() == {"object": "list", "data": []}


def test_the_doctor_reports_every_part(client: TestClient) -> None:
    report = client.get("/api/doctor").json()

    assert set(report) == set(objects.DoctorReport.model_fields)
    assert report["healthy"] is False, "no Redis answers"
    assert {"settings", "redis", "database"} <= {finding["what"] for finding in report["findings"]}
    objects.DoctorReport.model_validate(report)


def test_the_doctor_answers_in_time_with_what_it_found(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    has_found, is_over, threads = Event(), Event(), []

    def check_slowly(_settings: Any) -> Iterator[Any]:
        yield doctor.Finding("ok", "version", "1")
        has_found.set()
        is_over.wait(WAIT_TIMEOUT_SECONDS)

    def run_out_of_time(_seconds: float, check: Callable[[], object], _name: str) -> None:
        threads.append(Thread(target=check))
        threads[-1].start()
        has_found.wait(WAIT_TIMEOUT_SECONDS)
        raise TimeoutError

    monkeypatch.setattr(doctor, "run_checks", check_slowly)
    monkeypatch.setattr(checks, "call_within", run_out_of_time)

    reports = [client.get("/api/doctor") for _ in range(checks.MAX_DOCTORS + 1)]
    is_over.set()
    for thread in threads:
        thread.join(WAIT_TIMEOUT_SECONDS)

    assert reports[-1].status_code == 429, "checks that hang do not pile up"
    report = reports[0].json()
    assert [finding["what"] for finding in report["findings"]] == ["version", "doctor"]
    assert report["healthy"] is False


def test_the_doctor_of_all_tenants_needs_a_key_of_all_tenants(client: TestClient, database: Database) -> None:
    assert client.get("/api/doctor", headers=key_headers(database, "a", *Scope)).status_code == 403
    assert client.get("/api/doctor", headers=key_headers(database, None, Scope.ADMIN)).status_code == 200


def test_a_batch_is_audited_for_its_tenant(client: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2, tenant="a")
    execute(database, f"UPDATE batches SET succeeded = 1 WHERE id = '{batch_id}'")

    audit = client.get(f"/api/batches/{batch_id}/audit", headers=key_headers(database, "a", Scope.READ)).json()
    other = client.get(f"/api/batches/{batch_id}/audit", headers=key_headers(database, "b", Scope.READ))

    assert (audit["batches"], audit["sound"]) == (1, False)
    objects.Audit.model_validate(audit)
    assert other.status_code == 404


def test_a_few_checks_run_at_once_and_no_more(client: TestClient) -> None:
    permits = [checks._doctors.acquire(timeout=WAIT_TIMEOUT_SECONDS) for _ in range(checks.MAX_DOCTORS)]
    try:
        response = client.get("/api/doctor")
    finally:
        for _ in permits:
            checks._doctors.release()

    assert (response.status_code, response.headers["retry-after"]) == (429, "5")


def test_audits_keep_neither_the_doctor_nor_another_tenant_waiting(client: TestClient, database: Database) -> None:
    tenants = ("a", "b", "c", "d")
    paths = {name: f"/api/batches/{insert_batch(database, 1, tenant=name)}/audit" for name in tenants}
    key = {name: key_headers(database, name, Scope.READ) for name in tenants}

    with checks._audits.permit("a"):
        own, other = (client.get(paths[name], headers=key[name]) for name in "ab")
        with checks._audits.permit("b"), checks._audits.permit("c"):
            fourth = client.get(paths["d"], headers=key["d"])
            found = client.get("/api/doctor", headers=key_headers(database, None, Scope.ADMIN))
    afterwards = client.get(paths["a"], headers=key["a"])

    assert (own.status_code, own.headers["retry-after"]) == (429, "5")
    assert [answer.status_code for answer in (other, fourth, found, afterwards)] == [200, 429, 200, 200]
