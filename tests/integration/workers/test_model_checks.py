"""A submission checks its pipeline: the model's folder, its length, and what live workers have loaded."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

import batchmill
from models.db import Database
from models.errors import SettingsError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.tables.workers import Worker
from producer.client import Client

SETTINGS = """
[pipelines.tickets]
task = "sentiment-analysis"
model = "./tickets"
max_length = 64

[pipelines.long]
task = "sentiment-analysis"
model = "bundled:sentiment-analysis"
max_length = 5000
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "batchmill.toml").write_text(SETTINGS)
    (tmp_path / "a.jsonl").write_text('"good"\n"bad"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


def register_worker(database: Database, settings_hash: str) -> None:
    row = {"id": "w-1", "host": "gpu-1", "pid": 7, "device": "cpu", "pipeline": "tickets", "model": "m"}
    with database.write() as connection:
        connection.execute(insert(Worker).values(**row, served_pipelines={"tickets": settings_hash}, state="ready"))


def settings_hash() -> str:
    return Catalogue.load(Settings.load())["tickets"].settings_hash


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["submit", "dry-run"])
@pytest.mark.parametrize(
    ("pipeline", "message"),
    [("tickets", "model: there is no folder"), ("long", "max_length is 5,000, but the model takes 512 tokens")],
)
def test_a_pipeline_that_can_not_work_is_refused(
    database: Database, folder: Path, pipeline: str, message: str, options: tuple[str, ...]
) -> None:
    result = run("submit", "a.jsonl", "-p", pipeline, *options)

    assert result.exit_code == 2
    assert f"{folder}/batchmill.toml: [pipelines.{pipeline}] {message}" in result.stderr
    assert "no batches yet" in run("ls").stderr
    with Client() as client, pytest.raises(SettingsError, match=f"pipelines.{pipeline}"):
        client.submit(pipeline, ["good"])


def test_a_folder_on_the_workers_machine_is_accepted(database: Database, folder: Path) -> None:
    register_worker(database, settings_hash())

    result = run("submit", "a.jsonl", "-p", "tickets")

    assert result.exit_code == 0
    assert "other settings" not in result.stderr


def test_workers_with_other_settings_are_named(
    database: Database, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "tickets").mkdir()
    register_worker(database, settings_hash())
    (folder / "batchmill.toml").write_text(SETTINGS.replace("max_length = 64", "max_length = 32"))

    result = run("submit", "a.jsonl", "-p", "tickets")
    with Client() as client:
        client.submit("tickets", ["good"])

    assert result.exit_code == 0
    assert "warning: workers run tickets with other settings than batchmill.toml has here: gpu-1 (process 7)" in (
        result.stderr
    )
    assert "workers.other_settings" in caplog.text
    findings = json.loads(run("doctor", "--json").stdout)["findings"]
    messages = [finding["message"] for finding in findings if finding["what"] == "pipelines"]
    assert any("other settings" in message for message in messages)
    assert any("[pipelines.long] max_length is 5,000" in message for message in messages)


def test_a_misspelt_variable_is_named(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BATCHMILL_LEASE_SECOND", "5")

    result = run("ls")
    with Client() as client:
        client.batches()

    sentence = "the environment variable BATCHMILL_LEASE_SECOND names no setting; is BATCHMILL_LEASE_SECONDS meant?"
    assert f"batchmill: warning: {sentence}" in result.stderr
    assert sentence in caplog.text
    assert sentence in run("doctor").stdout


@pytest.mark.parametrize(
    "name", ["BATCHMILL_CONFIG", "batchmill_lease_seconds", "BATCHMILL_SOURCES__A__URL", "BATCHMILL_TEST_X", "HOME"]
)
def test_other_variables_are_not_named(name: str) -> None:
    from models.settings import unknown_variables

    assert unknown_variables({name: "x"}) == []
