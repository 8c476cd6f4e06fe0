"""Model versions: what exactly computes the results of a process, and the token budgets found for it."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import Database
from models.documents import as_json
from models.tables import ModelVersion


@dataclass(frozen=True, slots=True)
class Version:
    """What computes the results of this process; becomes a `model_versions` row."""

    task: str
    model: str
    revision: str
    tokenizer: str
    tokenizer_revision: str
    dtype: str
    quantization: str | None
    attention: str
    device: str
    libraries: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """The hash of all fields: equal versions share a row."""
        return hashlib.sha256(as_json(sorted(asdict(self).items())).encode()).hexdigest()


REMEMBERED = "SELECT tokens FROM budgets WHERE pipeline = :pipeline AND device = :device AND dtype = :dtype"

REMEMBER = """
INSERT INTO budgets (pipeline, device, dtype, tokens) VALUES (:pipeline, :device, :dtype, :tokens)
ON CONFLICT (pipeline, device, dtype) DO UPDATE SET tokens = excluded.tokens, found_at = {now}
"""


def register(database: Database, version: Version) -> int:
    """The id of this version's row; the same for every process that runs exactly the same."""
    values = {**asdict(version), "fingerprint": version.fingerprint}

    def work(connection: Connection) -> int:
        dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(ModelVersion).values(values).on_conflict_do_nothing())
        return connection.execute(
            select(ModelVersion.id).where(ModelVersion.fingerprint == version.fingerprint)
        ).scalar_one()

    return database.transact(work)


def remembered_budget(database: Database, pipeline: str, version: Version) -> int | None:
    """The padded tokens of a micro-batch that answered fastest here before; None when nobody has found out yet."""
    with database.read() as connection:
        tokens: int | None = connection.scalar(text(REMEMBERED), _budget_key(pipeline, version))
        return tokens


def remember_budget(database: Database, pipeline: str, version: Version, tokens: int) -> None:
    """Let the next process that runs this pipeline on such a device begin with this size."""
    with database.write() as connection:
        connection.execute(
            text(REMEMBER.format(now=database.sql.now)), {**_budget_key(pipeline, version), "tokens": tokens}
        )


def _budget_key(pipeline: str, version: Version) -> dict[str, str]:
    return {"pipeline": pipeline, "device": version.device, "dtype": version.quantization or version.dtype}
