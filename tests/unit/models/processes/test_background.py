"""Background threads: what should never be raised is logged whole once, and counted from then on."""

from typing import Any

import structlog
from structlog.testing import capture_logs

from models.processes.background import UnexpectedErrorLog


def raised(error: Exception, defects: UnexpectedErrorLog) -> None:
    try:
        raise error
    except type(error) as caught:
        defects.record(caught)


def test_a_defect_has_its_traceback_once_and_then_a_count() -> None:
    with capture_logs() as logs:
        defects = UnexpectedErrorLog(structlog.get_logger(), "sweep.crashed")
        for _ in range(3):
            raised(ValueError("a row's text"), defects)
        raised(TypeError("another"), defects)

    def seen(entry: Any) -> tuple[bool, Any]:
        return bool(entry.get("exc_info")), entry.get("count")

    assert [seen(entry) for entry in logs] == [(True, None), (False, 2), (False, 3), (True, None)]
    assert "a row's text" not in str(logs[1])
    assert all(entry["event"] == "sweep.crashed" for entry in logs)
