"""`batchmill keys`: what it prints, and what it refuses."""

import json

import pytest
from click.testing import CliRunner, Result

import batchmill
from models.db import Database
from producer.tenants import keys
from producer.tenants.principal import Scope


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["keys", *arguments])


def test_a_key_is_printed_once(database: Database) -> None:
    created = run("create", "--tenant", "acme", "--scope", "submit,read", "--scope", "admin", "--expires", "90d")
    listed, as_json = run("ls"), run("ls", "--json", "--tenant", "acme")

    key = created.stdout.strip()
    principal, _ = keys.verify_key(database, key)
    assert (principal.tenant, principal.scopes) == ("acme", frozenset(Scope))
    assert "shown only now" in created.stderr
    assert f"{principal.key_id}  acme    read,submit,admin  active" in listed.stdout
    [document] = json.loads(as_json.stdout)["data"]
    assert document["id"] == principal.key_id
    assert document["expires_at"] is not None
    assert key.split("_", 2)[2] not in listed.stdout + as_json.stdout


def test_revoking(database: Database) -> None:
    document = json.loads(run("create", "--all-tenants", "--json").stdout)

    result = run("revoke", document["id"])

    assert document["key"].startswith(f"bm_{document['id']}_")
    assert (document["tenant"], document["scopes"]) == (None, ["read", "submit"])
    assert (result.exit_code, "is revoked" in result.stderr) == (0, True)
    assert [view.state for view in keys.list_keys(database)] == ["revoked"]
    assert run("revoke", document["key"]).exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--tenant NAME"),
        (("--tenant", "a", "--all-tenants"), "--tenant NAME"),
        (("--tenant", "a b"), "no tenant's name"),
        (("--tenant", "a", "--scope", "write"), "no scope 'write'"),
        (("--tenant", "a", "--expires", "2020-01-01"), "when a key can end"),
        (("--tenant", "a", "--name", "two\nlines"), "a key's name"),
    ],
)
def test_what_is_refused(sqlite_url: str, arguments: tuple[str, ...], words: str) -> None:
    result = run("create", *arguments)

    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
