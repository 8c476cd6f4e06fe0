"""A schema's trial: one that would occupy a machine is refused, and one that the machine ends is not judged."""

import json
import signal
import subprocess

import pytest

from models.errors import InvalidParameters
from models.tasks.generation import schema_probe
from models.tasks.text_generation import TEXT_GENERATION

PATTERNS = [{"type": "string", "pattern": f".*a.{{{count}}}b.*"} for count in range(1, 21)]
BOMBS = {"many patterns": json.dumps({"allOf": PATTERNS}), "optional letters": "a?" * 15_000 + "a" * 15_000}


@pytest.mark.parametrize("schema", BOMBS.values(), ids=BOMBS)
def test_one_that_takes_minutes_or_gigabytes_is_refused(schema: str) -> None:
    with pytest.raises(InvalidParameters, match="takes too much time or memory; simplify its patterns"):
        TEXT_GENERATION.check_parameters({"output_schema": schema})


def test_a_trial_that_is_killed_says_nothing_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.CompletedProcess([], -signal.SIGKILL, b"", b"")
    monkeypatch.setattr(schema_probe, "_run_probe", lambda _schema: killed)

    with pytest.raises(BlockingIOError):
        schema_probe.find_problem("killed")
    assert TEXT_GENERATION.check_parameters({"output_schema": "killed"})["output_schema"] == "killed"


def test_each_schema_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert schema_probe.find_problem("(yes|once)") is None
    monkeypatch.setattr(schema_probe, "_run_probe", None)

    assert schema_probe.find_problem("(yes|once)") is None
