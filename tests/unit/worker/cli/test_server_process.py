"""The server that `up` starts: its port, and what is printed where there is none."""

import socket
from collections.abc import Iterator

import pytest

from models import packages
from models.settings import Settings
from worker.cli.server_process import plan_server


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_port_zero_is_no_server() -> None:
    plan = plan_server(Settings.load(serve_port=0))

    assert (plan.specs, plan.notices, plan.listener) == ((), (), None)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "SERVER_PACKAGES", ("fastapi", "no_such_package"))

    plan = plan_server(Settings.load())

    assert plan.specs == ()
    assert len(plan.notices) == 1
    assert ".[serve]" in plan.notices[0]


def test_a_taken_port_leads_to_the_next_one(taken_port: int) -> None:
    plan = plan_server(Settings.load(serve_port=taken_port))

    assert plan.listener is not None
    with plan.listener:
        port = plan.listener.getsockname()[1]
        assert taken_port < port <= taken_port + 9
        assert plan.notices == (f"web page and HTTP API: http://127.0.0.1:{port}",)
        assert plan.specs[0].descriptors == (plan.listener.fileno(),)
        with socket.create_connection(("127.0.0.1", port), timeout=60):
            pass  # the socket listens before the child runs


def test_no_free_port_is_a_warning(monkeypatch: pytest.MonkeyPatch, taken_port: int) -> None:
    monkeypatch.setattr("worker.cli.server_process.PORTS", 1)

    plan = plan_server(Settings.load(serve_port=taken_port))

    assert plan.specs == ()
    assert "BATCHMILL_SERVE_PORT" in plan.notices[0]


def test_the_address_says_whether_the_server_encrypts(taken_port: int) -> None:
    plan = plan_server(Settings.load(serve_port=taken_port, serve_tls_cert="c.pem", serve_tls_key="k.pem"))

    assert plan.listener is not None
    with plan.listener:
        assert plan.notices[0].startswith("web page and HTTP API: https://127.0.0.1:")
