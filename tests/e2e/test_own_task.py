"""The example of a task of one's own, installed beside Batchmill's wheel in a clean environment, run by commands."""

import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
import venv
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_task"


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of the checkout, and return what it wrote."""
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("BATCHMILL_")
    }
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment with Batchmill's wheel, the example as pip installs it, and their dependencies."""
    folder = tmp_path_factory.mktemp("own_task")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    venv.create(folder / "venv", symlinks=True)
    own = next((folder / "venv" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(own)
    # A folder that a .pth file names is searched, but its own .pth files, such as the checkout's, are not read.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "venv" / "bin" / "python"
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    installed = run(python, "-m", "pip", "install", *offline, EXAMPLE, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    return python


@pytest.fixture(scope="module")
def example(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which the example has run, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    result = run(python, EXAMPLE / "run.py", folder, cwd=folder.parent)
    log = folder / "up.log"
    assert result.returncode == 0, result.stderr + (log.read_text() if log.exists() else "")
    return folder, result.stdout


def test_the_tickets_are_answered(example: tuple[Path, str]) -> None:
    lines = example[1].splitlines()

    assert [line.split()[-2:] for line in lines[1:4]] == [
        ["delivery", "angry"],
        ["payment", "happy"],
        ["account", "neutral"],
    ]
    assert lines[4].endswith("empty_text: the ticket has no text beside its HTML; leave it out or give it text")


def test_results_name_the_package_s_version(python: Path, example: tuple[Path, str]) -> None:
    with closing(sqlite3.connect(example[0] / "home" / "batchmill.db")) as connection:
        [(libraries,)] = connection.execute("SELECT libraries FROM model_versions").fetchall()
    audit = run(python, "-m", "batchmill", "audit", cwd=example[0], BATCHMILL_HOME=str(example[0] / "home"))

    assert "ticket-triage 1.0.0" in str(json.loads(libraries)) or json.loads(libraries)["ticket-triage"] == "1.0.0"
    assert audit.stdout == "audited 1 batch, 4 jobs: nothing lost, nothing twice\n"


def test_submitters_need_no_torch(python: Path, example: tuple[Path, str]) -> None:
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'transformers', 'tokenizers', 'numpy']))\n"
        "from batchmill import Client\n"
        "batch = Client().submit('triage', [{'body': 'late'}, {'body': ' '}], on_invalid='fail-row')\n"
        "print(batch.request_counts.total, batch.request_counts.failed)\n"
    )
    settings = {"BATCHMILL_HOME": str(example[0] / "home"), "BATCHMILL_CONFIG": str(example[0] / "batchmill.toml")}

    result = run(python, "-c", script, cwd=example[0], **settings)

    assert result.stdout == "2 1\n", result.stderr


def test_the_example_passes_its_check(python: Path, example: tuple[Path, str]) -> None:
    options = ("--json", "--inputs", "64", "--seconds", "0.2", "--device", "cpu")

    result = run(
        python,
        *("-m", "batchmill", "tasks", "check", "ticket-triage", *options),
        cwd=example[0],
        BATCHMILL_CONFIG=str(example[0] / "batchmill.toml"),
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert [check["outcome"] for check in json.loads(result.stdout)["checks"]] == ["ok"] * 13
