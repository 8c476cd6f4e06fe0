"""Errors of the server as responses: addresses and folders of the operator are in the log only."""

import json

import pytest
from structlog.testing import capture_logs

from models.errors import BatchmillError, DatabaseRefused, FileStoreUnavailable, NotFound, SchemaMismatch, Unreachable
from producer.server.errors import error_response

SECRET = "postgresql://10.0.0.7:5432/mill at /var/lib/mill"


@pytest.mark.parametrize(
    ("kind", "status"), [(Unreachable, 503), (SchemaMismatch, 503), (FileStoreUnavailable, 503), (DatabaseRefused, 500)]
)
def test_where_things_are_is_logged_and_not_sent(kind: type[BatchmillError], status: int) -> None:
    with capture_logs() as logs:
        response = error_response(kind(SECRET))

    assert response.status_code == status
    document = json.loads(bytes(response.body))["error"]
    assert document["code"] == kind.code
    assert document["message"]
    assert "10.0.0.7" not in document["message"]
    assert "/var" not in document["message"]
    assert [(line["event"], line["error"]) for line in logs] == [("request.part_unavailable", SECRET)]


def test_other_messages_are_sent() -> None:
    assert json.loads(bytes(error_response(NotFound("batch_7 does not exist")).body))["error"]["message"].startswith(
        "batch_7"
    )
