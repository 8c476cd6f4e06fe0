from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from models import schema
from models.db import Database
from models.errors import SchemaMismatch


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(database_url)


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_folder()))

    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_upgrading_again_changes_nothing(database: Database) -> None:
    schema.upgrade(database.url)

    assert schema.current_version(database) == schema.HEAD
    schema.check_version(database)
    database.close()


def test_an_embedded_database_upgrades_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'batchmill.db'}"

    database = schema.open_database_url(url, is_embedded=True, connect_timeout_seconds=1)

    assert schema.current_version(database) == schema.HEAD
    database.close()


def test_a_servers_is_never_upgraded_unasked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'batchmill.db'}"

    with pytest.raises(SchemaMismatch, match="no Batchmill tables yet; run: batchmill db upgrade"):
        schema.open_database_url(url, is_embedded=False, connect_timeout_seconds=1)


@pytest.mark.parametrize(("found", "words"), [("0000", "run: batchmill db upgrade"), ("9999", "newer than this code")])
def test_another_version_is_named(database: Database, found: str, words: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})

    with pytest.raises(SchemaMismatch, match=words):
        schema.check_version(database)
    database.close()
