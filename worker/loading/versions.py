"""Model versions record the software and model that compute results, and the token budgets tuned for them."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import Database
from models.documents import to_json
from models.pipelines.pipeline import join_revisions
from models.tables.results import ModelVersion


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """The model, device and libraries that compute the results of this process; saved in `model_versions`."""

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
    adapter: str | None = None
    adapter_revision: str | None = None

    @property
    def fingerprint(self) -> str:
        """The hash of all fields, so that equal versions share a row; it is as it was for versions without adapter."""
        fields = {name: value for name, value in asdict(self).items() if value is not None or name not in LATER_FIELDS}
        return hashlib.sha256(to_json(sorted(fields.items())).encode()).hexdigest()

    @property
    def batch_revision(self) -> str:
        """The revision that a batch records: the model's, and its adapter's if it has one."""
        return join_revisions(self.revision, self.adapter_revision)


LATER_FIELDS = ("adapter", "adapter_revision")


SELECT_TOKEN_BUDGET = (
    "SELECT micro_batch_tokens FROM token_budgets WHERE pipeline = :pipeline AND device = :device AND dtype = :dtype"
)

UPSERT_TOKEN_BUDGET = """
INSERT INTO token_budgets (pipeline, device, dtype, micro_batch_tokens)
VALUES (:pipeline, :device, :dtype, :micro_batch_tokens)
ON CONFLICT (pipeline, device, dtype) DO UPDATE SET micro_batch_tokens = excluded.micro_batch_tokens, tuned_at = {now}
"""


def register_version(database: Database, version: RuntimeVersion) -> int:
    """Insert this version unless it exists and return the id of its row."""
    values = {**asdict(version), "fingerprint": version.fingerprint}

    def work(connection: Connection) -> int:
        dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(ModelVersion).values(values).on_conflict_do_nothing())
        return connection.execute(
            select(ModelVersion.id).where(ModelVersion.fingerprint == version.fingerprint)
        ).scalar_one()

    return database.transact(work)


def load_token_budget(database: Database, pipeline: str, version: RuntimeVersion) -> int | None:
    """Return the token budget that ran fastest on such a device before; None = not tuned yet."""
    with database.read() as connection:
        tokens: int | None = connection.scalar(text(SELECT_TOKEN_BUDGET), _token_budget_key(pipeline, version))
        return tokens


def save_token_budget(database: Database, pipeline: str, version: RuntimeVersion, tokens: int) -> None:
    """Save the initial token budget for later processes with this pipeline, device and dtype."""
    with database.write() as connection:
        connection.execute(
            text(UPSERT_TOKEN_BUDGET.format(now=database.sql.now)),
            {**_token_budget_key(pipeline, version), "micro_batch_tokens": tokens},
        )


def _token_budget_key(pipeline: str, version: RuntimeVersion) -> dict[str, str]:
    return {"pipeline": pipeline, "device": version.device, "dtype": version.quantization or version.dtype}
