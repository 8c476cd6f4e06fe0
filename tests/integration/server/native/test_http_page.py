"""The commands on the page on the HTTP API are run against a server, one after the other."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import batchmill
from models.db import Database
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import UNREACHABLE_REDIS
from tests.factories.served_app import served

PAGE = (Path(batchmill.__file__).parent / "docs" / "reference" / "http-api.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ ((?:curl|printf) .*)$", PAGE, re.MULTILINE)
# In this state of the example's batch these are refused, which the page's reader sees too.
MAY_BE_REFUSED = ("/cancel", "/repair")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_the_commands_on_the_page_work(database: Database, tmp_path: Path) -> None:
    batch_id = insert_batch(database, 2)
    good = {"label": "POSITIVE", "score": 0.5}
    fake_worker.write_results(database, batch_id, [(0, "model_error"), (1, good)])
    fake_worker.end_batch(database, batch_id)

    with served(database, redis_url=UNREACHABLE_REDIS) as url:
        environment = {**os.environ, "URL": url, "BATCH": batch_id, "KEY": "Accept-Language: en"}
        for command in COMMANDS:
            done = subprocess.run(
                f"{command} --no-progress-meter --max-time 30" if command.startswith("curl") else command,
                shell=True,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
            may_fail = any(path in command for path in MAY_BE_REFUSED)
            assert may_fail or '"error":' not in done.stdout, (command, done.stdout)

    assert len(COMMANDS) > 18
    assert (tmp_path / "results.csv").read_text().startswith("position,")
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2
