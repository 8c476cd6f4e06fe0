"""The files that no test runs for real: they name commands, settings and paths that exist."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from batchmill import COMMANDS
from models.settings import Settings

ROOT = Path(__file__).parents[2]


def ours() -> list[dict]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return [service for service in services.values() if service["image"] == "batchmill"]


def test_compose_runs_commands_that_exist() -> None:
    commands = [service["command"] for service in ours() if "command" in service]
    assert {command[0] for command in commands} == {"worker", "db", "serve"}
    assert {command[0] for command in commands} <= COMMANDS.keys()


def test_compose_sets_settings_that_exist() -> None:
    names = {name for service in ours() for name in service["environment"] if name.startswith("BATCHMILL_")}
    assert names
    assert {name.removeprefix("BATCHMILL_").lower() for name in names} <= Settings.model_fields.keys()


def test_compose_gives_workers_longer_than_they_give_themselves() -> None:
    graces = [
        int(service["stop_grace_period"].removesuffix("s")) for service in ours() if "stop_grace_period" in service
    ]
    assert len(graces) == 3
    assert min(graces) > Settings.model_fields["grace_seconds"].default


def test_the_image_takes_what_is_there() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for extra in project["optional-dependencies"].values() for name in extra]
    wanted = [*project["dependencies"], *extras]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} <= pinned


def test_make_has_the_targets_that_the_documents_name() -> None:
    pages = {page: (ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md", "docs/how-to/schedules.md")}
    targets = {page: set(re.findall(r"^\$ make ([\w-]+)", text, re.MULTILINE)) for page, text in pages.items()}

    assert targets["README.md"] == {"demo"}
    assert targets["CONTRIBUTING.md"] == {"lint", "test", "soak", "bench"}
    for target in set().union(*targets.values()):
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_make_runs_modules_that_exist() -> None:
    modules = set(re.findall(r"-m ((?:training|benchmarks|tests)[\w.]*)", (ROOT / "Makefile").read_text()))

    assert len(modules) > 8
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []
