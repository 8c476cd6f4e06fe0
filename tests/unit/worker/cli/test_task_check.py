import json
import select
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import batchmill
from tests.servers import WAIT_TIMEOUT_SECONDS
from worker.cli import task_check
from worker.task_checks.report import STACKS_SIGNAL

BEGIN = "import json, os, sys, time; say = lambda **m: print(json.dumps(m), flush=True); "
OK = "say(begin='loading'); say(check='loading', outcome='ok', message='loaded'); say(begin='other rows'); "


def check(monkeypatch: pytest.MonkeyPatch, script: str, *options: str) -> Result:
    """Run the command with a process that does what the script says."""
    monkeypatch.setattr(task_check, "CHECK_PROCESS", ["-c", BEGIN + script])
    return CliRunner().invoke(batchmill.cli, ["tasks", "check", "sample-ner", *options])


def test_each_check_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(monkeypatch, OK + "say(check='other rows', outcome='ok', message='same \\x1b[31m')")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == "ok       loading        loaded\nok       other rows     same  [31m\n"


def test_a_failed_check_is_exit_code_1_and_json_has_a_stable_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(monkeypatch, OK + "say(check='other rows', outcome='failed', message='mend it')", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "object": "task_check",
        "name": "sample-ner",
        "ok": False,
        "checks": [
            {"check": "loading", "outcome": "ok", "message": "loaded"},
            {"check": "other rows", "outcome": "failed", "message": "mend it"},
        ],
    }


def test_a_check_that_hangs_is_ended_and_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The signal ends this process once the stacks are written, so no time has to be long enough for that.
    stacks = f"import faulthandler; faulthandler.register({STACKS_SIGNAL.value}, chain=True); "
    monkeypatch.setattr(task_check, "STACKS_SECONDS", 60)
    read_messages = task_check._read_messages

    def read_slowly_at_first(process: Any, timeout: float) -> Iterator[dict[str, Any]]:
        """Give the process all the time that it needs to begin what hangs."""
        yield from islice(read_messages(process, WAIT_TIMEOUT_SECONDS), OK.count("say("))
        yield from read_messages(process, timeout)

    monkeypatch.setattr(task_check, "_read_messages", read_slowly_at_first)

    result = check(monkeypatch, stacks + OK + "time.sleep(600)", "--timeout", "1")

    assert result.exit_code == 1
    assert "failed   other rows     it took longer than 1 s and was ended" in result.stdout
    assert "most recent call first" in capfd.readouterr().err


def test_progress_extends_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def wait_three_seconds(*descriptors_and_timeout: Any) -> Any:
        *descriptors, timeout = descriptors_and_timeout
        now[0] += min(timeout, 3.0)
        return select.select(*descriptors, WAIT_TIMEOUT_SECONDS) if timeout >= 3.0 else ([], [], [])

    monkeypatch.setattr(task_check, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(task_check, "select", SimpleNamespace(select=wait_three_seconds))
    monkeypatch.setattr(task_check, "READ_BYTES", 20)  # less than a line

    assert check(monkeypatch, OK + "[say(progress=True) for _ in range(5)]", "--timeout", "4").exit_code == 0
    assert now[0] > 5 * 3.0


@pytest.mark.parametrize(
    ("script", "words"), [("os.kill(os.getpid(), 11)", "by signal 11"), ("sys.exit(3)", "with status 3")]
)
def test_a_process_that_ends_early_fails_its_check(monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    result = check(monkeypatch, OK + script)

    assert result.exit_code == 1
    assert f"failed   other rows     its process ended {words}" in result.stdout


def test_an_unknown_name_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_check, "run_checks", lambda *_: pytest.fail("nothing may start"))

    result = CliRunner().invoke(batchmill.cli, ["tasks", "check", "sample-nerr"])

    assert result.exit_code == 2
    assert "there is no pipeline 'sample-nerr'" in result.stderr


def test_the_task_named_check_leaves_the_other_command_alone() -> None:
    assert CliRunner().invoke(batchmill.cli, ["tasks", "ner"]).exit_code == 0
    assert (
        "Usage: batchmill tasks check"
        in CliRunner().invoke(batchmill.cli, ["tasks", "check", "--help"], prog_name="batchmill").stdout
    )
