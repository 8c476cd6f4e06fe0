"""The rows of servers: who may run beside whom, and how long a server that was killed stands in the way."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from sqlalchemy import text

import batchmill
from models.db import Database
from models.errors import BatchmillError
from models.processes import holders
from models.settings import Settings
from producer.health import servers
from producer.server.process import instances
from producer.server.process.instances import Instance, OtherServer
from tests.factories.batch_rows import execute

SHARED = "file:///mnt/files"


def instance(database: Database, uploads: str = "store-1", file_store: str | None = None) -> Instance:
    settings = Settings.load(file_store=file_store, lease_seconds=30)
    return Instance(database, settings, uploads, "http://127.0.0.1:8000")


def insert_server(database: Database, holder_id: str, age_seconds: float = 0.0) -> None:
    statement = (
        "INSERT INTO servers (id, host, pid, address, uploads, heartbeat_at) "
        "VALUES (:id, 'h', 7, 'http://h', 'store-1', "
        f"{database.sql.seconds_from_now(-age_seconds)})"
    )
    execute(database, statement, id=holder_id)


def ids(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(text("SELECT id FROM servers ORDER BY id")))


@pytest.fixture
def gone_holder() -> str:
    """The id of a process of this machine that has exited."""
    code = "from models.processes import holders; print(holders.new_holder_id())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def foreign_holder() -> str:
    """The id of a process of another machine, which can't be checked from here."""
    return holders.new_holder_id().replace(os.uname().nodename, "elsewhere", 1)


def test_a_second_server_with_a_folder_is_refused(database: Database) -> None:
    first, second = instance(database), instance(database)
    first.register()

    with pytest.raises(OtherServer, match=r"http://127.0.0.1:8000, pid .* set file_store to a store that they share"):
        second.register()

    first.unregister()
    second.register()
    assert ids(database) == [second._id]


def test_servers_with_one_shared_store_run_beside_each_other(database: Database) -> None:
    first, second = instance(database, file_store=SHARED), instance(database, file_store=SHARED)

    first.register()
    second.register()

    assert ids(database) == sorted((first._id, second._id))
    with pytest.raises(OtherServer, match="with another file store"):
        instance(database, "store-2", file_store=SHARED).register()
    with pytest.raises(OtherServer):
        instance(database).register()


def test_a_killed_server_of_this_machine_is_replaced_at_once(database: Database, gone_holder: str) -> None:
    insert_server(database, gone_holder)
    mine = instance(database)

    mine.register()

    assert ids(database) == [mine._id]


def test_a_server_elsewhere_without_heartbeats_is_replaced(database: Database, foreign_holder: str) -> None:
    insert_server(database, foreign_holder, age_seconds=31)
    mine = instance(database)

    mine.register()

    assert ids(database) == [mine._id]


def test_a_server_elsewhere_is_waited_for_until_it_has_a_heartbeat(
    database: Database, foreign_holder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_server(database, foreign_holder, age_seconds=10)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            execute(database, f"UPDATE servers SET heartbeat_at = {database.sql.now}")

    monkeypatch.setattr(instances.time, "sleep", wait)

    with pytest.raises(OtherServer):
        instance(database).register()

    assert len(waits) == 3


def test_the_doctor_and_workers_list_them(database: Database, foreign_holder: str, gone_holder: str) -> None:
    assert list(servers.check_servers([])) == []
    insert_server(database, foreign_holder, age_seconds=90)
    insert_server(database, gone_holder)
    instance(database).register()  # which removes both
    insert_server(database, foreign_holder.replace("elsewhere", "far"), age_seconds=90)

    views = servers.list_servers(database, 30)
    findings = list(servers.check_servers(views))
    shown = CliRunner().invoke(batchmill.cli, ["workers"])

    assert sorted(view.alive for view in views) == [False, True]
    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert "the last heartbeat of http://h (process 7 on h)" in findings[1].message
    assert "http://127.0.0.1:8000" in shown.stdout
    assert "running" in shown.stdout
    assert "gone" in shown.stdout


def test_a_server_that_was_frozen_goes_on_unless_it_was_replaced(database: Database) -> None:
    first, second = instance(database), instance(database)
    errors: list[BatchmillError] = []
    first.on_refused = errors.append
    first.register()
    execute(database, "DELETE FROM servers")
    assert first._beat()
    assert ids(database) == [first._id]

    execute(database, "DELETE FROM servers")
    second.register()

    assert not first._beat()
    assert [error.code for error in errors] == ["file_store_not_shared"]
    assert ids(database) == [second._id]
