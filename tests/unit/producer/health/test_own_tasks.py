"""Findings about tasks of one's own, and about pipelines whose task is not to be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models.settings import Settings
from models.tasks.own import registry
from producer.health import doctor, findings
from producer.health.findings import OK, PROBLEM, WARNING
from tests.factories.own_task.installed import PACKAGE, package_on_path, write_metadata


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package, and a broken one beside it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with package_on_path(tmp_path, entry_points={"irony": f"{PACKAGE}.tasks:IRONY"}):
        write_metadata(tmp_path, "broken-tasks", {"broken": "broken_tasks:BROKEN"}, "1.0")
        yield tmp_path


def test_a_task_that_can_not_be_used_is_a_problem() -> None:
    problem, fine = findings.check_own_tasks(registry.load_all())

    assert (problem.level, problem.subject) == (PROBLEM, "tasks")
    assert "broken (package broken-tasks): there is no module 'broken_tasks'" in problem.message
    assert (fine.level, fine.message) == (OK, "irony (irony-tasks 1.2.0)")


def test_a_pipeline_without_its_task_is_a_problem_and_others_are_checked() -> None:
    entries = {"lost": {"task": "broken", "model": "a/b"}, "here": {"task": "irony", "model": "/nowhere"}}

    found = [finding.message for finding in doctor._check_pipelines(Settings.load(pipelines=entries), [])]

    assert any("[pipelines.lost] task: there is no module" in message for message in found)
    assert any("[pipelines.here] model: there is no folder /nowhere" in message for message in found)


def test_a_task_that_is_not_installed_here_is_a_warning_once(installed: Path) -> None:
    entries = {
        "gone": {"task": "gone.tasks:X", "model": "a/b"},
        "absent": {"task": "two-heads", "model": "a/b"},
        "wrong": {"task": f"{PACKAGE}.tasks:NOTHING", "model": "a/b"},
    }
    Path("batchmill.toml").write_text(
        "".join(f'[pipelines.{name}]\ntask = "{entry["task"]}"\n' for name, entry in entries.items())
    )

    tasks = list(findings.check_own_tasks(registry.load_all()))
    pipelines = list(doctor._check_pipelines(Settings.load(pipelines=entries), []))

    levels = {
        name: [each.level for each in (*tasks, *pipelines) if f"[pipelines.{name}]" in each.message] for name in entries
    }
    assert levels == {"gone": [WARNING], "absent": [WARNING], "wrong": [PROBLEM]}
    assert any("if it is a package's, install that package here" in each.message for each in pipelines)


def test_commands_list_them() -> None:
    Path("batchmill.toml").write_text('[pipelines.lost]\ntask = "gone.tasks:X"\nmodel = "a/b"\n')

    listed = CliRunner().invoke(batchmill.cli, ["tasks"])
    explained = CliRunner().invoke(batchmill.cli, ["tasks", "irony"])
    pipelines = CliRunner().invoke(batchmill.cli, ["pipelines"])
    submitted = CliRunner().invoke(batchmill.cli, ["submit", "-", "--pipeline", "lost"], input="x\n")

    assert "can't be used (package broken-tasks): there is no module" in listed.stdout
    assert "can't be used ([pipelines.lost]): there is no module 'gone'" in listed.stdout
    assert "code            irony-tasks 1.2.0" in explained.stdout
    assert "[pipelines.lost] task: there is no module 'gone'" in pipelines.stderr
    assert submitted.exit_code == 2
    assert "[pipelines.lost] task: there is no module 'gone'" in submitted.stderr
