"""`batchmill up`: the pipelines that it serves and the words that it begins with."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models import schema, tasks
from models.errors import DatabaseRefused, SchemaMismatch
from models.settings import Settings
from worker.cli import maintain, run
from worker.maintenance.loop import MaintenanceLoop

SAMPLES = [
    *(f"sample-{task}" for task in tasks.TASKS),
    "sample-prompt-injection",
    "sample-toxicity",
    "sample-personal-data",
    "sample-guarded-sentiment",
]
MINE = '[pipelines.mine]\ntask = "ner"\nmodel = "a/b"\n[pipelines.sample-ner]\nmax_length = 64\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without a batchmill.toml, and no child processes."""
    monkeypatch.setenv("BATCHMILL_SERVE_PORT", "0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "supervise", lambda *_a, **_k: 0)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "expected"),
    [("", SAMPLES), (MINE, ["mine", "sample-ner", *(name for name in SAMPLES if name != "sample-ner")])],
)
def test_up_serves_the_user_s_pipelines_and_the_samples(folder: Path, config: str, expected: list[str]) -> None:
    (folder / "batchmill.toml").write_text(config)

    assert run._default_pipelines(Settings.load()) == expected


@pytest.mark.parametrize("source", ["flag", "environment", "file", "nothing"])
def test_up_says_its_pid_how_to_stop_it_and_where_its_log_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    if source == "environment":
        monkeypatch.setenv("BATCHMILL_LOG_FILE", "logs/up.log")
    if source == "file":
        (folder / "batchmill.toml").write_text('log_file = "logs/up.log"\n')

    result = CliRunner().invoke(batchmill.cli, ["up", *(["--log-file", "logs/up.log"] if source == "flag" else [])])

    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"Batchmill serves {', '.join(SAMPLES)} on sqlite:///")
    assert "Ctrl-C or `batchmill down` stops it" in lines[1]
    place = "standard error; --log-file FILE writes it to a file instead"
    assert lines[2] == f"log: {place if source == 'nothing' else folder / 'logs' / 'up.log'}"


@pytest.mark.parametrize("command", [["worker", "sample-ner"], ["maintain"]], ids=lambda words: words[0])
def test_worker_and_maintain_say_where_their_log_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(maintain, "_run", lambda *_: os.write(2, b"a line\n") and 0)
    monkeypatch.setattr(run, "supervise", lambda *_a, **_k: os.write(2, b"a line\n") and 0)
    monkeypatch.setenv("BATCHMILL_REDIS_URL", "redis://127.0.0.1:1/0")

    result = CliRunner().invoke(batchmill.cli, [*command, "--log-file", "mine.log"])

    assert result.exit_code == 0, result.stderr
    assert f"log: {folder / 'mine.log'}" in result.stderr
    assert (folder / "mine.log").read_text() == "a line\n"


def test_a_supervisor_that_the_tables_end_points_to_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "supervise", lambda *_a, **_k: SchemaMismatch.exit_code)

    result = CliRunner().invoke(batchmill.cli, ["up", "--log-file", "up.log"])

    assert result.exit_code == 6
    assert result.stderr.endswith(f"the tables belong to another version; {folder / 'up.log'} has the details\n")


def test_maintenance_that_the_tables_end_points_to_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class RefusedLoop(MaintenanceLoop):
        def run_once(self, now: float) -> None:
            for _ in range(3):  # as each task would
                self._on_schema_mismatch(DatabaseRefused("no such column"))

    explained: list[object] = []

    def explain(_database: object, error: object) -> SchemaMismatch:
        explained.append(error)
        return SchemaMismatch("the tables are newer")

    monkeypatch.setattr(maintain, "MaintenanceLoop", RefusedLoop)
    monkeypatch.setattr(schema, "explain_refusal", explain)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    result = CliRunner().invoke(batchmill.cli, ["maintain", "--log-file", "mine.log"])

    assert result.exit_code == 6
    assert result.stderr.endswith(f"the tables belong to another version; {folder / 'mine.log'} has the details\n")
    assert len(explained) == 1
