"""Deployments with a fake model, which starts at once, and crashes, hangs or fails where its input says so."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.deployment import Deployment, temporary_deployment

FAKE_PIPELINE = "fake"
NO_RESTART = {"FAKE_RESTART_SECONDS": "3600"}  # for a supervisor whose next worker would be killed as well
CHILD_PROCESS_FOLDER = Path(__file__).parent / "child_process"
PIPELINE_CONFIG = '[pipelines.fake]\ntask = "sentiment-analysis"\nmodel = "nobody/fake"\n'
GUARDS_CONFIG = f"""
[pipelines.watch]
task = "sentiment-analysis"
model = "nobody/guard"
revision = "{"a" * 40}"
[pipelines.fake.guards.injection]
on = "input"
pipeline = "watch"
label = "INJECTION"
action = "fail"
[pipelines.fake.guards.digits]
on = "input"
pattern = "secret-[0-9]+"
action = "redact"
[pipelines.fake.guards.answers]
on = "output"
pipeline = "watch"
label = "INJECTION"
action = "flag"
"""


@contextmanager
def fake_model_deployment(
    folder: Path, *, database_url: str, redis_url: str, slice_size: int = 16, guards: str = "", **settings: str
) -> Iterator[Deployment]:
    """Yield a deployment of the pipeline `fake`; `FAKE_…` variables select faults (see `child_process/`).

    guards: its guards, as in batchmill.toml
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "batchmill.toml").write_text(
        f"slice_size = {slice_size}\n{PIPELINE_CONFIG}{guards}"
    )  # clients read it, too
    with temporary_deployment(folder, database_url=database_url, redis_url=redis_url, **settings) as deployment:
        replace_models(deployment)
        yield deployment
        assert "switcher.crashed" not in deployment.log, "a process that restarts may hide an error of the fake model"


def replace_models(deployment: Deployment) -> None:
    """Let all worker processes have the fake model for every pipeline."""
    path = os.pathsep.join(filter(None, (str(CHILD_PROCESS_FOLDER), deployment.environment.get("PYTHONPATH"))))
    deployment.environment["PYTHONPATH"] = path


def numbered_texts(count: int) -> list[str]:
    """Return different texts of the same length."""
    return [f"number {place:06}" for place in range(count)]


def to_jsonl(texts: list[str]) -> bytes:
    """Return a file of inputs."""
    return "".join(f'"{text}"\n' for text in texts).encode()


def daily_schedule(folder: Path, texts: list[str]) -> list[str]:
    """Write a file of texts for two days, and return the command that creates `daily` into the table `answers`."""
    rows = "".join(json.dumps({"id": text, "text": text}) + "\n" for text in texts)
    for day in (0, 1):  # the test may run over midnight
        (folder / f"{datetime.now(UTC) + timedelta(days=day):%Y-%m-%d}.jsonl").write_text(rows)
    source = str(folder / "{time:%Y-%m-%d}.jsonl")
    options = ["--cron", "0 0 * * *", "--pipeline", FAKE_PIPELINE, "--into", "answers", "--file", source, "--reuse"]
    return ["schedule", "create", "daily", *options]


def assert_outputs(deployment: Deployment, batch_id: str, texts: list[str]) -> None:
    """Assert that each text has the output of an undisturbed run."""
    assert deployment.outputs(batch_id) == [{"text": text, "length": len(text)} for text in texts]


def count_forward_passes(path: Path) -> Counter[str]:
    """Count how often each text went through the model, from a FAKE_FORWARD_LOG."""
    return Counter(path.read_text().splitlines() if path.exists() else ())
