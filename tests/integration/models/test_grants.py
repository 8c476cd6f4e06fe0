"""The grants of PostgreSQL's roles: what the code does is what they say, no more and no less; refusals name them."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from models.db import Database
from models.errors import InsufficientPrivilege
from models.postgresql import access, grants, privileges
from models.postgresql.grants import Purpose
from models.tables.metadata import METADATA
from tests import database_roles, fake_worker
from tests.database_roles import DatabaseRoles
from tests.factories.batch_rows import execute, insert_batch

SAMPLE = "sample-sentiment-analysis"
ROOT = Path(__file__).parents[3]
EVERY_RIGHT = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

# Statements whose table is not written in them.
OUT_OF_SIGHT = {("superseded_results", "DELETE"), ("results", "DELETE"), ("jobs", "DELETE")}
ORM = {
    "Batch": "batches",
    "ModelVersion": "model_versions",
    "ScheduleRow": "schedules",
    "Schedule": "schedules",
    "Run": "runs",
    "Event": "events",
    "StoredFile": "files",
}

THERE = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = CAST('public' AS regnamespace)
"""
CREATES = "SELECT has_schema_privilege(:role, 'public', 'CREATE')"
GIVEN = """
SELECT c.relname AS name, r.privilege_type AS given
FROM pg_class c, aclexplode(c.relacl) AS r JOIN pg_roles ON pg_roles.oid = r.grantee
WHERE pg_roles.rolname = :role
"""


def written_by(*rooms: str) -> set[tuple[str, str]]:
    """What the statements in the source of these packages change, by table."""
    found = set()
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        source = path.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {pair for pair in privileges.required_privileges(node.value) if pair[0] in METADATA.tables}
        found |= {(name, "INSERT") for name in re.findall(r'insert_rows\(\s*\w+, "(\w+)"', source)}
        found |= {(ORM[name], "INSERT") for name in re.findall(r"insert\((\w+)", source) if name in ORM}
    return {(table, right) for table, right in found if right not in ("SELECT", "OWNER")}


def declared(purpose: Purpose) -> set[tuple[str, str]]:
    return {(name, right) for name, some in purpose.privileges.items() for right in some if right != "SELECT"}


class TestTheCode:
    def test_workers_write_what_they_are_given(self) -> None:
        written = written_by("models", "producer", "worker")

        assert written <= declared(Purpose.WORKER)
        assert declared(Purpose.WORKER) - written <= OUT_OF_SIGHT, "a right that nothing needs"

    def test_submitters_write_what_they_are_given(self) -> None:
        written = written_by("models", "producer")

        assert written <= declared(Purpose.SUBMITTER)
        assert declared(Purpose.SUBMITTER) - written <= OUT_OF_SIGHT, "a right that nothing needs"

    def test_each_table_and_view_can_be_read(self, postgresql_url: str) -> None:
        database = Database(postgresql_url)
        with database.read() as connection:
            there = set(connection.scalars(text(THERE)))
        database.close()

        assert there - grants.SECRET_TABLES == set(grants.READER_PRIVILEGES)


@pytest.fixture
def given(postgresql_url: str) -> Iterator[DatabaseRoles]:
    with database_roles.temporary_roles(postgresql_url) as found:
        yield found


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["--database-url", url, *arguments])


def named(given: DatabaseRoles) -> list[str]:
    return [word for purpose, name in given.names.items() for word in (f"--{purpose.value}", name)]


class TestTheCommand:
    def test_what_it_prints_gives_each_role_its_rights_and_nothing_more(
        self, given: DatabaseRoles, postgresql_url: str
    ) -> None:
        printed = run(postgresql_url, "db", "grants", *named(given))
        given.execute(*printed.stdout.splitlines())

        database = Database(postgresql_url)
        for purpose, role in given.names.items():
            with database.read() as connection:
                rows = connection.execute(text(GIVEN), {"role": role}).all()
                creates = connection.scalar(text(CREATES), {"role": role})
            assert {(row.name, row.given) for row in rows} == {
                (name, right) for name, some in purpose.privileges.items() for right in some
            }
            assert not creates
        database.close()

    def test_as_json(self, given: DatabaseRoles, postgresql_url: str) -> None:
        role = given.names[Purpose.READER]

        printed = json.loads(run(postgresql_url, "db", "grants", "--reader", role, "--json").stdout)

        assert printed["statements"] == run(postgresql_url, "db", "grants", "--reader", role).stdout.splitlines()

    @pytest.mark.parametrize("name", ["Größe", 'with "quotes"', "select", "a b", "%s:x", "ends;--"])
    def test_any_name(self, given: DatabaseRoles, postgresql_url: str, name: str) -> None:
        role = given.names[Purpose.WORKER]
        as_sql = '"' + name.replace('"', '""') + '"'
        given.execute(f"ALTER ROLE {role} RENAME TO {as_sql}")
        try:
            printed = run(postgresql_url, "db", "grants", "--worker", name, "--create-tables").stdout.splitlines()
            given.execute(*printed)
            database = Database(given.url_for_role(name))
            access.require_privileges(database, Purpose.WORKER)
            database.close()
        finally:
            given.execute(f"ALTER ROLE {as_sql} RENAME TO {role}")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "name a role"),
            (["--reader", "public"], "is no role's name"),
            (["--reader", "PUBLIC"], "no role's"),
            (["--worker", ""], "is no role's name"),
            (["--worker", "é" * 32], "is no role's name"),
        ],
    )
    def test_what_is_no_role(self, postgresql_url: str, arguments: list[str], words: str) -> None:
        result = run(postgresql_url, "db", "grants", *arguments)

        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr

    def test_sqlite_has_no_roles(self, sqlite_url: str) -> None:
        assert "SQLite has no roles" in run(sqlite_url, "db", "grants", "--reader", "r").stderr


class TestRefusals:
    """One sentence with the role, the right, the table and the GRANT, and the exit code 1."""

    @pytest.fixture
    def batch_id(self, postgresql_url: str) -> str:
        database = Database(postgresql_url)
        batch_id = insert_batch(database, 4)
        fake_worker.write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "empty_text")])
        database.close()
        return batch_id

    @pytest.mark.parametrize(
        ("command", "lacking"),
        [
            (("cancel", "{id}"), "UPDATE on batches"),
            (("delete", "{id}", "--cancel"), "UPDATE on batches"),
            (("results", "{id}", "--to-sql", "labels"), "CREATE on schema public"),
            (("submit", "{file}", "-p", SAMPLE), "INSERT on batches"),
            (("submit", "{file}", "-p", SAMPLE, "--idempotency-key", "k"), "INSERT on batches"),
            (
                ("schedule", "create", "x", "--cron", "0 1 * * *", "-p", SAMPLE, "--file", "{{time:%Y-%m-%d}}.jsonl"),
                "UPDATE on schedules",
            ),
            (("maintain",), "INSERT on activity"),
        ],
    )
    def test_a_reader_is_told_what_it_lacks(
        self, given: DatabaseRoles, batch_id: str, tmp_path: Path, command: tuple[str, ...], lacking: str
    ) -> None:
        given.grant(Purpose.READER)
        (tmp_path / "in.jsonl").write_text('"good"\n')
        role = given.names[Purpose.READER]

        words = [word.format(id=batch_id, file=tmp_path / "in.jsonl") for word in command]
        result = run(given.url_for(Purpose.READER), *words)

        assert result.exit_code == 1, result.stderr
        [sentence] = result.stderr.splitlines()
        right, _, on = lacking.partition(" on ")
        assert f"role {role} lacks {right} on {on}" in sentence
        assert f"GRANT {right}" in sentence
        assert f"TO {role}" in sentence

    def test_each_table_that_can_t_be_read_is_named(self, given: DatabaseRoles, redis_url: str) -> None:
        given.grant(Purpose.READER)
        role = given.names[Purpose.READER]

        for name in grants.READER_PRIVILEGES:
            given.execute(f"REVOKE SELECT ON {name} FROM {role}")
            result = run(given.url_for(Purpose.READER), "--redis-url", redis_url, "doctor")
            given.execute(f"GRANT SELECT ON {name} TO {role}")

            assert result.exit_code == 1
            assert f"SELECT on {name}" in result.stdout
            assert f"batchmill db grants --reader {role}" in result.stdout

    def test_what_it_says_to_grant_is_enough(self, given: DatabaseRoles, batch_id: str) -> None:
        given.grant(Purpose.SUBMITTER)
        role = given.names[Purpose.SUBMITTER]
        given.execute(*(f"REVOKE ALL ON {name} FROM {role}" for name in METADATA.tables))
        given.execute(f"REVOKE ALL ON {grants.VERSION_TABLE} FROM {role}")

        for _ in range(20):
            result = run(given.url_for(Purpose.SUBMITTER), "cancel", batch_id)
            if result.exit_code == 0:
                break
            given.execute(*re.findall(r"GRANT [A-Z, ]+ ON \w+ TO \w+", result.stderr))

        assert result.exit_code == 0, result.stderr

    def test_no_look_into_the_schema(self, given: DatabaseRoles) -> None:
        role = given.names[Purpose.READER]
        given.grant(Purpose.READER)
        given.execute(f"REVOKE USAGE ON SCHEMA public FROM PUBLIC, {role}")

        result = run(given.url_for(Purpose.READER), "ls")

        assert (result.exit_code, f"GRANT USAGE ON SCHEMA public TO {role}" in result.stderr) == (1, True)

    def test_no_temporary_tables(self, given: DatabaseRoles, batch_id: str) -> None:
        role = given.names[Purpose.READER]
        given.grant(Purpose.READER)
        name = given.owner_url.rpartition("/")[2]
        given.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")

        result = run(given.url_for(Purpose.READER), "results", batch_id, "--to-sql", "labels")

        assert (result.exit_code, f"GRANT TEMPORARY ON DATABASE {name} TO {role}" in result.stderr) == (1, True)

    def test_somebody_else_s_table(self, given: DatabaseRoles, batch_id: str) -> None:
        role = given.names[Purpose.SUBMITTER]
        given.grant(Purpose.SUBMITTER, create_tables=True)
        assert run(given.owner_url, "results", batch_id, "--to-sql", "labels").exit_code == 0

        result = run(given.url_for(Purpose.SUBMITTER), "results", batch_id, "--to-sql", "labels")
        assert result.exit_code == 1
        assert f"GRANT INSERT, UPDATE, SELECT ON labels TO {role}" in result.stderr

        given.execute(f"GRANT INSERT, UPDATE, SELECT ON labels TO {role}")
        assert run(given.url_for(Purpose.SUBMITTER), "results", batch_id, "--to-sql", "labels").exit_code == 0

    def test_only_the_owner_upgrades(self, given: DatabaseRoles) -> None:
        given.grant(Purpose.WORKER)
        given.execute(f"GRANT UPDATE ON alembic_version TO {given.names[Purpose.WORKER]}")
        given.execute("DROP TABLE events, runs, schedules")
        given.execute("UPDATE alembic_version SET version_num = '0001'")

        result = run(given.url_for(Purpose.WORKER), "db", "upgrade")

        assert (result.exit_code, "lacks CREATE on schema public" in result.stderr) == (1, True), result.stderr

    def test_only_the_owner_changes_a_table(self, given: DatabaseRoles) -> None:
        given.grant(Purpose.WORKER, create_tables=True)
        database = Database(given.url_for(Purpose.WORKER))

        with pytest.raises(InsufficientPrivilege, match="is not the owner of table batches"):
            execute(database, "ALTER TABLE batches ADD COLUMN more text")
        database.close()


class TestDoctor:
    @pytest.mark.parametrize(
        ("purpose", "may"),
        [
            (Purpose.READER, "may read, and not submit or work"),
            (Purpose.SUBMITTER, "may read and submit, and not work"),
            (Purpose.WORKER, "may read and submit and work"),
        ],
    )
    def test_what_a_role_is_for(self, given: DatabaseRoles, redis_url: str, purpose: Purpose, may: str) -> None:
        given.grant(purpose)

        result = run(given.url_for(purpose), "--redis-url", redis_url, "doctor")

        assert f"ok       role      {given.names[purpose]} {may}\n" in result.stdout
        assert result.exit_code == 0

    @pytest.mark.parametrize(
        ("purpose", "revoked", "can_t"),
        [
            (Purpose.SUBMITTER, "DELETE ON slices", "can't submit: it lacks DELETE on slices"),
            (Purpose.WORKER, "UPDATE ON maintenance_tasks", "can't work: it lacks UPDATE on maintenance_tasks"),
            (Purpose.WORKER, "INSERT ON results", "can't submit: it lacks INSERT on results"),
        ],
    )
    def test_a_right_that_is_missing(self, given: DatabaseRoles, purpose: Purpose, revoked: str, can_t: str) -> None:
        given.grant(purpose)
        given.execute(f"REVOKE {revoked} FROM {given.names[purpose]}")

        result = run(given.url_for(purpose), "doctor")

        assert (
            f"warning  role      role {given.names[purpose]} {can_t}; the owner of the tables runs the output of"
            in result.stdout
        )

    def test_sqlite_has_no_such_line(self, sqlite_url: str) -> None:
        assert " role " not in run(sqlite_url, "doctor").stdout
