"""Re-embedding keeps all vectors of an output table comparable: of one model, with the same settings.

A run that finds vectors of another model in its table reads those rows too, from the inputs that the table holds. Its
merge then replaces every vector in one transaction. A vector that it can't replace is cleared, or the merge is refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnClause,
    ColumnElement,
    Connection,
    TableClause,
    Text,
    Uuid,
    and_,
    bindparam,
    false,
    func,
    not_,
    null,
    or_,
    select,
    text,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.types import TypeEngine

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import UsageError
from producer.results.column_types import read_column_types
from producer.results.staging import STAGING_TABLE_NAME

log = structlog.get_logger(__name__)

ID_COLUMN, REVISION_COLUMN, SCHEDULED_AT_COLUMN = "id", "revision", "scheduled_at"
KEY_COLUMN = "embedding_key"
REQUIRED_COLUMNS = {ID_COLUMN, KEY_COLUMN, REVISION_COLUMN, SCHEDULED_AT_COLUMN}

PAGE_ROWS = 500  # whose ids are looked up at once
RUN_AGAIN_ADVICE = "`batchmill schedule trigger` runs the schedule for now, and embeds all rows again"

SELECT_SUBMITTED_IDS = "SELECT custom_id FROM jobs WHERE batch_id = :batch_id AND custom_id IN :custom_ids"
SELECT_FAILED_IDS = """
SELECT j.custom_id FROM jobs j JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE j.batch_id = :batch_id AND j.custom_id IN :custom_ids AND r.status = 'failed'
"""


@dataclass(frozen=True, slots=True)
class EmbeddingVersion:
    """All that two vectors must have in common to be compared.

    key: the batch's output cache key, which is a hash of the pipeline's settings and parameters; None = it has none
    revision: of the model; None = unknown until a worker claims

    What is unknown of one of the two counts as equal.
    """

    key: str | None
    revision: str | None


UNKNOWN_VERSION = EmbeddingVersion(None, None)


@dataclass(frozen=True, slots=True)
class VectorTable:
    """An output table that has vectors.

    sql: the table with its columns
    vector: name of the column of vectors
    version: that of a run
    """

    sql: TableClause
    vector: str
    version: EmbeddingVersion

    @classmethod
    def find(
        cls, connection: Connection, name: str, version: EmbeddingVersion, vector_names: Sequence[str]
    ) -> Self | None:
        """Return the table; None if there is none of this name, or it has no vectors.

        vector_names: names that the column of vectors may have; the first one that there is counts
        """
        columns: dict[str, Any] = {
            column: _python_type(sql_type) for column, sql_type in read_column_types(connection, name).items()
        }
        vector = next((name for name in vector_names if name in columns), None)
        if vector is None or not columns.keys() >= REQUIRED_COLUMNS:
            return None
        columns[SCHEDULED_AT_COLUMN] = UtcDateTime()
        return cls(sql_table(name, *(sql_column(*column) for column in columns.items())), vector, version)

    @property
    def id(self) -> ColumnClause[Any]:
        """The column of the ids."""
        return self.sql.c[ID_COLUMN]

    @property
    def is_other(self) -> ColumnElement[bool]:
        """The condition for rows that have a vector of another version."""
        known = {KEY_COLUMN: self.version.key, REVISION_COLUMN: self.version.revision}
        differs = [
            func.coalesce(self.sql.c[name], value) != value for name, value in known.items() if value is not None
        ]
        return and_(self.sql.c[self.vector].is_not(None), or_(false(), *differs))

    def has_current_vectors(self, connection: Connection) -> bool:
        """Return whether there are vectors of this version."""
        has_vector = self.sql.c[self.vector].is_not(None)
        return connection.scalar(select(self.id).where(has_vector, not_(self.is_other)).limit(1)) is not None

    def needs_embedding(self, connection: Connection, inputs: Iterable[str], scheduled_at: datetime) -> bool:
        """Return whether there are vectors of another version; reads the whole table if there are none.

        inputs: columns that must be there for that
        scheduled_at: time of the run

        Raises UsageError if the run can't replace them.
        """
        if connection.scalar(select(self.id).where(self.is_other).limit(1)) is None:
            return False
        other = f"the table {self.sql.name} has vectors of another model or of other settings"
        if missing := [name for name in inputs if name not in self.sql.c]:
            raise UsageError(
                f"{other}, and no column {missing[0]} to embed them again from; name another table with into, or drop "
                "this one"
            )
        is_newer = self.sql.c[SCHEDULED_AT_COLUMN] > scheduled_at
        if connection.scalar(select(self.id).where(self.is_other, is_newer).limit(1)) is not None:
            raise UsageError(f"{other}, from later runs, and such vectors can't be compared; {RUN_AGAIN_ADVICE}")
        return True


def _python_type(sql_type: str) -> TypeEngine[Any]:
    """Return the type for binding and reading values of a column, as `read_column_types` spells it."""
    if sql_type in ("UUID", "BIGINT", "INTEGER"):
        return Uuid() if sql_type == "UUID" else BigInteger()
    return Text()


@dataclass(frozen=True, slots=True)
class BatchIds:
    """The ids of a batch's rows, looked up in the results' database.

    database: the results' database
    batch_id: id of the batch
    """

    database: Database
    batch_id: str

    def submitted(self, custom_ids: Sequence[str]) -> frozenset[str]:
        """Return which of some ids the batch has, those of invalid rows too."""
        return self._select(SELECT_SUBMITTED_IDS, custom_ids)

    def failed(self, custom_ids: Sequence[str]) -> frozenset[str]:
        """Return which of some ids are of jobs that failed."""
        return self._select(SELECT_FAILED_IDS, custom_ids)

    def _select(self, statement: str, custom_ids: Sequence[str]) -> frozenset[str]:
        query = text(statement).bindparams(bindparam("custom_ids", expanding=True))
        with self.database.read() as connection:
            return frozenset(connection.scalars(query, {"batch_id": self.batch_id, "custom_ids": list(custom_ids)}))


def clear_vectors_left_behind(
    connection: Connection, table: VectorTable, batch_ids: BatchIds, scheduled_at: datetime
) -> int:
    """Clear the vectors of another version whose rows failed in this run; return their number.

    batch_ids: those of the run
    scheduled_at: time of the run

    Raises UsageError, which must roll the transaction back, if the staged rows leave the vectors of any other row.
    """
    target = table.sql
    staged = sql_table(STAGING_TABLE_NAME, sql_column(ID_COLUMN), sql_column(SCHEDULED_AT_COLUMN, UtcDateTime()))
    is_replaced = and_(staged.c[ID_COLUMN] == table.id, staged.c[SCHEDULED_AT_COLUMN] >= target.c[SCHEDULED_AT_COLUMN])
    # A join, because both databases build an index for it.
    left = select(table.id).select_from(target.outerjoin(staged, is_replaced))
    left = left.where(table.is_other, staged.c[ID_COLUMN].is_(None))
    if connection.scalar(left.where(target.c[SCHEDULED_AT_COLUMN] > scheduled_at).limit(1)) is not None:
        raise UsageError(
            f"the table {target.name} has vectors of another model or of other settings, from later runs, and this run "
            f"would mix its own with them; {RUN_AGAIN_ADVICE}"
        )
    count = 0
    with connection.execute(left.execution_options(yield_per=PAGE_ROWS)) as ids:
        for page in ids.scalars().partitions():
            count += len(page)
            if len(batch_ids.failed([str(row_id) for row_id in page])) < len(page):
                raise UsageError(
                    f"rows of the table {target.name} have vectors of another model or of other settings, and this run "
                    "did not read them; another run wrote them meanwhile, or the model's revision moved. The next run "
                    "embeds them again, if the catalogue pins the model's revision"
                )
    if count:
        empty = dict.fromkeys((table.vector, KEY_COLUMN, "model", REVISION_COLUMN), null())
        connection.execute(target.update().where(table.id.in_(left)).values(empty))
        log.warning("run.vectors_cleared", count=count, table=target.name)
    return count
