"""Tracebacks say where an error comes from, and quote nobody's data."""

import io
import json
import logging
import sqlite3
import subprocess
import sys
from typing import Literal

import psycopg
import pytest
import structlog
from sqlalchemy.exc import DBAPIError

from models import log
from models.errors import NotFound
from models.privacy import tracebacks
from models.settings import Settings

CANARY = "canary-7f3a"


def of_postgresql(kind: type[psycopg.Error], said: str) -> DBAPIError:
    return DBAPIError.instance("INSERT …", {"text": CANARY}, kind(said), psycopg.Error, hide_parameters=True)


FOREIGN = [
    ValueError(f"could not convert string to float: {CANARY!r}"),
    KeyError(CANARY),
    TypeError(CANARY),
    RuntimeError(CANARY),
    AssertionError(CANARY),
    json.JSONDecodeError("expected", CANARY, 0),
    UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY),
    FileNotFoundError(2, "No such file", f"s3://b?{CANARY}"),
    of_postgresql(psycopg.errors.NotNullViolation, f"null value in column\nDETAIL:  Failing row contains ({CANARY})."),
    of_postgresql(psycopg.errors.InvalidTextRepresentation, f"invalid input syntax for type integer: {CANARY!r}"),
    of_postgresql(psycopg.DataError, f"can't parse timestamp {CANARY!r}"),
    DBAPIError.instance("INSERT …", (CANARY,), sqlite3.IntegrityError("UNIQUE constraint failed: t.id"), sqlite3.Error),
]


@pytest.fixture(params=["console", "json"])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is logged in each format."""
    stream, kind = io.StringIO(), request.param
    monkeypatch.setattr("sys.stderr", stream)
    log.configure(Settings.load(log_format=kind))
    return stream


def raised(error: Exception, *, how: Literal["from", "while", "alone"]) -> Exception:
    text_in_a_frame = CANARY
    try:
        try:
            raise error
        except Exception as first:
            if how == "alone":
                raise
            if how == "while":
                raise NotFound(f"no {len(text_in_a_frame)}") from first
            raise LookupError(text_in_a_frame)  # noqa: B904
    except Exception as last:
        return last


@pytest.mark.parametrize("how", ["from", "while", "alone"])
@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
class TestFormatted:
    def test_names_and_frames_without_messages(self, error: Exception, how: Literal["from", "while", "alone"]) -> None:
        shown = tracebacks.format_error(raised(error, how=how))

        assert CANARY not in shown
        assert type(error).__qualname__ in shown
        assert "in raised" in shown

    def test_in_logs_of_either_kind(
        self, error: Exception, how: Literal["from", "while", "alone"], written: io.StringIO
    ) -> None:
        caught = raised(error, how=how)
        structlog.get_logger("ours").error("a defect", exc_info=caught)
        logging.getLogger("somebody.elses").error("it broke", exc_info=caught)

        assert written.getvalue().count(type(error).__qualname__) >= 2
        assert CANARY not in written.getvalue()


@pytest.mark.parametrize("name", ["httpcore.http11", "httpx", "urllib3.connectionpool", "botocore.auth", "any.other"])
def test_libraries_that_log_requests_do_not_at_any_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.configure(Settings.load(log_level="debug"))

    logging.getLogger(name).debug("GET /?signature=%s", CANARY)
    logging.getLogger(name).info("GET /?signature=%s", CANARY)
    logging.getLogger("worker.engine.engine").debug("ours is heard")

    assert CANARY not in stream.getvalue()
    assert "ours is heard" in stream.getvalue()


def test_what_helps_is_kept() -> None:
    def defect() -> None:
        None.nothing  # type: ignore[attr-defined]  # noqa: B018

    with pytest.raises(AttributeError) as caught:
        defect()

    assert tracebacks.format_error(caught.value).endswith(
        "AttributeError: 'NoneType' object has no attribute 'nothing'"
    )
    assert tracebacks.safe_message(NotFound("there is no batch x")) == "there is no batch x"
    assert tracebacks.safe_message(PermissionError(13, "Permission denied", "/a")) == "Permission denied"


def test_causes_come_first_and_a_circle_ends() -> None:
    first, second = ValueError(), LookupError()
    first.__context__, second.__cause__ = second, first

    shown = tracebacks.format_error(second)

    assert shown.index("ValueError") < shown.index("direct cause") < shown.index("LookupError")


THREAD = "thread = threading.Thread(target={}.__getitem__, args=[x]); thread.start(); thread.join()"


@pytest.mark.parametrize("fault", ["raise KeyError(x)", THREAD])
def test_what_nobody_catches(fault: str) -> None:
    script = (
        "from models.privacy import tracebacks; tracebacks.install_excepthooks(); "
        "import sys, threading; x = sys.argv[1]; "
    )

    ended = subprocess.run([sys.executable, "-c", script + fault, CANARY], capture_output=True, text=True, check=False)

    assert "KeyError" in ended.stderr
    assert CANARY not in ended.stderr
