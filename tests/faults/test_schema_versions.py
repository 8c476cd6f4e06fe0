"""Code and tables of different versions: nothing starts, nothing is written, and the command that mends it is named."""

import os
import signal
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from models import schema
from models.db import Database
from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, fake_model_deployment, numbered_texts

STARTS = (["worker", FAKE_PIPELINE], ["maintain"], ["submit", "-", "-p", FAKE_PIPELINE])
OLDER = "0001"


def refused(deployment: Deployment, words: str) -> None:
    """Whatever needs the tables ends at once, saying so in one sentence."""
    for start in STARTS:
        done = deployment.invoke(*start, stdin=b"a text\n")
        assert done.returncode == 6, done.stderr
        [sentence] = done.stderr.decode().splitlines()
        assert words in sentence


def downgrade(url: str) -> None:
    config, database = Config(), Database(url)
    config.set_main_option("script_location", str(schema.migrations_folder()))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, OLDER)
    database.close()


def test_new_code_on_old_tables_names_the_upgrade_and_then_works(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        downgrade(database_url)
        refused(
            deployment, f"the tables are of version {OLDER}, this code needs {schema.HEAD}; run: batchmill db upgrade"
        )

        upgraded = deployment.invoke("db", "upgrade")

        assert upgraded.returncode == 0, upgraded.stderr
        deployment.start_worker(FAKE_PIPELINE)
        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(10)).wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(batch.id, 10)


@pytest.mark.parametrize("newer", ["9999"])
def test_old_code_on_new_tables_refuses_to_touch_them(
    tmp_path: Path, database_url: str, redis_url: str, newer: str
) -> None:
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        deployment.execute(f"UPDATE alembic_version SET version_num = '{newer}'")

        refused(deployment, f"the tables are of version {newer}, newer than this code's {schema.HEAD}")

        assert deployment.query("SELECT count(*) AS n FROM batches")[0].n == 0


@pytest.mark.parametrize("command", [["worker", FAKE_PIPELINE], ["maintain"]])
def test_what_runs_while_the_tables_are_upgraded_beneath_it_ends_and_says_so(
    tmp_path: Path, database_url: str, redis_url: str, command: list[str]
) -> None:
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        process = deployment.start(*command)
        wait_for(
            lambda: deployment.query("SELECT 1 FROM maintenance_tasks WHERE last_run_at IS NOT NULL"), "the first duty"
        )
        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(10)) if command[0] == "worker" else None
        if batch is not None:
            batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.execute("UPDATE alembic_version SET version_num = '9999'")
        deployment.execute("ALTER TABLE slices RENAME COLUMN available_at TO rests_until")
        deployment.execute("ALTER TABLE batches RENAME COLUMN holder_heartbeat_at TO last_heard_at")

        assert process.wait(WAIT_TIMEOUT_SECONDS) == 6
        assert f"the tables are of version 9999, newer than this code's {schema.HEAD}; install that" in deployment.log
        assert "Traceback" not in deployment.log


def test_an_old_worker_finishes_its_work_beside_tables_that_only_gained_something(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    """Rows of columns that old code does not know are read and written as before; only new starts are refused."""
    texts = numbered_texts(200)
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        supervisor = deployment.start("worker", FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.01")
        [worker] = deployment.wait_for_workers()
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.wait_for_results(batch.id, 1)

        deployment.execute("CREATE TABLE things (id INTEGER)")
        for table in ("batches", "slices", "jobs", "results", "workers", "maintenance_tasks"):
            deployment.execute(f"ALTER TABLE {table} ADD COLUMN thing TEXT")
        deployment.execute("UPDATE alembic_version SET version_num = '9999'")
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, len(texts))
        assert {row.attempts for row in deployment.query("SELECT attempts FROM results")} == {1}
        assert deployment.ready_worker_pids() == [worker]
        refused(deployment, f"the tables are of version 9999, newer than this code's {schema.HEAD}")
        os.kill(worker, signal.SIGKILL)
        assert supervisor.wait(WAIT_TIMEOUT_SECONDS) == 6, "what it would restart is refused too"
