"""`batchmill up`: the pipelines that it serves and the words that it begins with."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models import tasks
from models.settings import Settings
from worker.cli import run

SAMPLES = [f"sample-{task}" for task in tasks.TASKS]
MINE = '[pipelines.mine]\ntask = "ner"\nmodel = "a/b"\n[pipelines.sample-ner]\nmax_length = 64\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without a batchmill.toml, and no child processes."""
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
