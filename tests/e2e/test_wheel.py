"""The wheel in a clean environment: `batchmill` is its only name, and a user's own `models.py` changes nothing."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.version import full_version
from tests.servers import WAIT_TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]

SUBMIT = """
import models, producer, worker  # the user's own
from batchmill import Client, NotFound

assert models.MINE and producer.MINE and worker.MINE
client = Client()
try:
    client.batch("batch_none")
except NotFound:
    pass
batch = client.submit("sample-sentiment-analysis", ["a lovely film", "a dull one"])
batch.wait(timeout=180)
print([(row.position, str(row.status), row.output["label"]) for row in batch.results()])
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment that has the wheel and its dependencies, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    own = next((folder / "venv" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(own)
    # A folder that a .pth file names is searched, but its own .pth files, such as the checkout's, are not read.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "python"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose modules bear the names of our packages."""
    for name in ("models", "producer", "worker", "migrations"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    return tmp_path


@pytest.fixture
def up(python: Path, hostile: Path) -> Iterator[dict[str, str]]:
    """The environment of a whole system that runs in the hostile folder."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("BATCHMILL_")
    } | {"BATCHMILL_HOME": str(hostile / "home")}
    command = [str(python), "-m", "batchmill", "up", "--pipelines", "sample-sentiment-analysis", "--no-serve"]
    command.append("--exit-with-parent")
    with (
        (hostile / "up.log").open("w") as log,
        subprocess.Popen(command, cwd=hostile, env=environment, stdin=subprocess.PIPE, stderr=log) as process,
    ):
        yield environment
        process.terminate()


def test_batchmill_is_the_only_name(python: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.util, json, sys\n"
        "names = ['batchmill', 'models', 'producer', 'worker', 'migrations', 'training', 'tests']\n"
        "print(json.dumps([name for name in names if importlib.util.find_spec(name)]))\n"
    )

    result = subprocess.run([python, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(result.stdout) == ["batchmill"]


def test_the_main_job_beside_a_user_s_own_modules(python: Path, hostile: Path, up: dict[str, str]) -> None:
    (hostile / "submit.py").write_text(SUBMIT)
    deadline = time.monotonic() + WAIT_TIMEOUT_SECONDS
    while not (hostile / "home" / "batchmill.db").exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    result = subprocess.run([python, "submit.py"], cwd=hostile, env=up, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr + (hostile / "up.log").read_text()
    assert result.stdout == "[(0, 'succeeded', 'POSITIVE'), (1, 'succeeded', 'NEGATIVE')]\n"


def test_the_wheel_names_the_commit_that_it_was_built_of(python: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [python, "-I", "-m", "batchmill", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert result.stdout == f"batchmill, version {full_version()}\n"


def test_the_demo_starts_up_from_the_wheel(python: Path, tmp_path: Path) -> None:
    script = (
        "import pathlib, time\n"
        "from batchmill.producer.cli.demo import sandbox\n"
        "home = pathlib.Path('demo').absolute()\n"
        "with sandbox.isolated_settings(home), sandbox.run_up(home / 'up.log', ['sample-fill-mask']) as check:\n"
        "    while not (home / 'batchmill.db').exists():\n"
        "        check()\n"
        "        time.sleep(0.1)\n"
    )

    result = subprocess.run([python, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
