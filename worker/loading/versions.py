"""Model versions: what exactly computes the results of a process, and the token budgets found for it."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import Database
from models.documents import to_json
from models.tables import ModelVersion


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
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
        return hashlib.sha256(to_json(sorted(asdict(self).items())).encode()).hexdigest()


SELECT_TOKEN_BUDGET = "SELECT tokens FROM budgets WHERE pipeline = :pipeline AND device = :device AND dtype = :dtype"

UPSERT_TOKEN_BUDGET = """
INSERT INTO budgets (pipeline, device, dtype, tokens) VALUES (:pipeline, :device, :dtype, :tokens)
ON CONFLICT (pipeline, device, dtype) DO UPDATE SET tokens = excluded.tokens, found_at = {now}
"""


def register_version(database: Database, version: RuntimeVersion) -> int:
    """The id of this version's row; the same for every process that runs exactly the same."""
    values = {**asdict(version), "fingerprint": version.fingerprint}

    def work(connection: Connection) -> int:
        dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(ModelVersion).values(values).on_conflict_do_nothing())
        return connection.execute(
            select(ModelVersion.id).where(ModelVersion.fingerprint == version.fingerprint)
        ).scalar_one()

    return database.transact(work)


def load_token_budget(database: Database, pipeline: str, version: RuntimeVersion) -> int | None:
    """The padded tokens of a micro-batch that answered fastest here before; None when nobody has found out yet."""
    with database.read() as connection:
        tokens: int | None = connection.scalar(text(SELECT_TOKEN_BUDGET), _token_budget_key(pipeline, version))
        return tokens


def save_token_budget(database: Database, pipeline: str, version: RuntimeVersion, tokens: int) -> None:
    """Let the next process that runs this pipeline on such a device begin with this size."""
    with database.write() as connection:
        connection.execute(
            text(UPSERT_TOKEN_BUDGET.format(now=database.sql.now)),
            {**_token_budget_key(pipeline, version), "tokens": tokens},
        )


def _token_budget_key(pipeline: str, version: RuntimeVersion) -> dict[str, str]:
    return {"pipeline": pipeline, "device": version.device, "dtype": version.quantization or version.dtype}
