"""Committed migrations do not change: databases that ran them would differ from new ones, under the same version."""

import hashlib
from pathlib import Path

from models import schema

HASHES = Path(__file__).with_name("migrations.sha256")
COMMAND = "(cd migrations/versions && sha256sum 0*.py) > tests/unit/models/migrations.sha256"


def listed_hashes() -> dict[str, str]:
    """The hash of each file, as `sha256sum` writes them."""
    return {name: digest for digest, name in (line.split() for line in HASHES.read_text("utf-8").splitlines())}


def current_hashes() -> dict[str, str]:
    paths = sorted((schema.migrations_folder() / "versions").glob("0*.py"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_listed_migration_never_changes() -> None:
    current = current_hashes()

    changed = [name for name, digest in listed_hashes().items() if current.get(name) != digest]
    assert changed == [], "undo the change and add a new migration"


def test_every_migration_that_another_one_follows_is_listed() -> None:
    *followed, _newest = sorted(current_hashes())

    assert [name for name in followed if name not in listed_hashes()] == [], f"list them: {COMMAND}"
