"""An input that kills its process is found, closed after three deaths, and costs nobody else anything."""

import signal
import subprocess
import sys
from pathlib import Path

from models.settings import Settings
from producer import Client
from tests.faults.fragile import KILLER
from worker.mourning import Mourning
from worker.supervisor import Death

PIPELINE = '[pipelines.fragile]\ntask = "sentiment-analysis"\nmodel = "nobody/none"\n'
ROOT = Path(__file__).parents[2]
JOBS, PLACE = 64, 37


def test_the_killer_is_closed_and_its_neighbours_succeed(
    tmp_path: Path, database_url: str, redis_url: str, monkeypatch
) -> None:
    (tmp_path / "batchmill.toml").write_text(PIPELINE)
    monkeypatch.setenv("BATCHMILL_CONFIG", str(tmp_path / "batchmill.toml"))
    monkeypatch.setenv("BATCHMILL_SLICE_JOBS", "16")
    inputs = [f"number {place}" for place in range(JOBS)]
    inputs[PLACE] = KILLER
    with Client(database_url, redis_url) as client:
        batch = client.submit("fragile", inputs)

        deaths = []
        mourning = Mourning(client.database, Settings.load(redis_url=redis_url))
        while (status := run(database_url, batch.id, name := f"fragile-{len(deaths)}")) != 0:
            deaths.append(status)
            mourning(Death(name, status, starved=False))

        rows = list(batch.refresh().results())
    assert deaths == [-signal.SIGABRT] * 3
    assert sorted(row.position for row in rows) == list(range(JOBS))
    assert {row.position: row.error_code for row in rows if row.status != "succeeded"} == {PLACE: "worker_died"}
    assert batch.status == "completed"


def run(database_url: str, batch_id: str, name: str) -> int:
    command = [sys.executable, "-m", "tests.faults.fragile", database_url, batch_id, name]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False, stderr=subprocess.DEVNULL).returncode
