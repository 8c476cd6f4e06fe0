"""Re-embedding keeps all vectors of an output table comparable: of one model, with the same settings.

A run that finds vectors of another model in its table reads those rows too, from the inputs that the table holds. Its
merge then replaces every vector in one transaction. A vector that it can't replace is cleared, or the merge is refused.
"""

import re
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
    not_,
    null,
    or_,
    select,
    text,
    true,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.types import TypeEngine

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import UsageError
from producer.results.tables.column_types import is_vector_type, read_column_types
from producer.results.tables.staging import STAGING_TABLE_NAME

log = structlog.get_logger(__name__)

ID_COLUMN, REVISION_COLUMN, SCHEDULED_AT_COLUMN = "id", "revision", "scheduled_at"
KEY_COLUMN = "embedding_key"
REQUIRED_COLUMNS = {ID_COLUMN, REVISION_COLUMN, SCHEDULED_AT_COLUMN}
VECTOR_NAME = re.compile("(output_)*embedding")  # the prefix where columns of the source have the shorter names

PAGE_ROWS = 500  # whose ids are looked up at once
RUN_AGAIN_ADVICE = "trigger the schedule: that runs it for now, and embeds all rows again"

SELECT_SUBMITTED_IDS = "SELECT custom_id FROM jobs WHERE batch_id = :batch_id AND custom_id IN :custom_ids"
SELECT_FAILED_IDS = """
SELECT j.custom_id FROM jobs j JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE j.batch_id = :batch_id AND j.custom_id IN :custom_ids AND r.status = 'failed'
"""


@dataclass(frozen=True, slots=True)
class EmbeddingVersion:
    """All that two vectors must have in common to be compared.

    key: hash of the pipeline's settings and the parameters; None = unknown, or outputs are no vectors
    revision: of the model; None = unknown until a worker claims

    What the run does not know of the two counts as equal.
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
    def find(cls, connection: Connection, name: str, version: EmbeddingVersion) -> Self | None:
        """Return the table; None if there is none of this name, or it has no vectors."""
        types = read_column_types(connection, name)
        names = (name for name, sql_type in types.items() if VECTOR_NAME.fullmatch(name) and is_vector_type(sql_type))
        vector = next(names, None)
        if vector is None or not types.keys() >= REQUIRED_COLUMNS:
            return None
        columns: dict[str, Any] = {column: _python_type(sql_type) for column, sql_type in types.items()}
        columns[SCHEDULED_AT_COLUMN] = UtcDateTime()
        return cls(sql_table(name, *(sql_column(*column) for column in columns.items())), vector, version)

    @property
    def id(self) -> ColumnClause[Any]:
        """The column of the ids."""
        return self.sql.c[ID_COLUMN]

    @property
    def has_keys(self) -> bool:
        """Whether the table says with which settings its vectors were made."""
        return KEY_COLUMN in self.sql.c

    @property
    def is_other(self) -> ColumnElement[bool]:
        """The condition for rows that have a vector of another version; one without a key is another."""
        differs: list[ColumnElement[bool]] = []
        if self.version.key is not None:
            differs.append(self.sql.c[KEY_COLUMN].is_distinct_from(self.version.key) if self.has_keys else true())
        if self.version.revision is not None:
            differs.append(self.sql.c[REVISION_COLUMN] != self.version.revision)
        return and_(self.sql.c[self.vector].is_not(None), or_(false(), *differs))

    @property
    def is_cleared(self) -> ColumnElement[bool]:
        """The condition for rows whose vector a run has cleared, because they failed with its model."""
        if not self.has_keys:
            return false()
        return and_(*(self.sql.c[name].is_(None) for name in (self.vector, KEY_COLUMN, REVISION_COLUMN)))

    @property
    def is_stale(self) -> ColumnElement[bool]:
        """The condition for rows that a run embeds again."""
        return or_(self.is_other, self.is_cleared)

    def has_cleared_rows(self, connection: Connection, inputs: Iterable[str]) -> bool:
        """Return whether there are cleared rows, with the columns of these inputs to embed them again from."""
        if not all(name in self.sql.c for name in inputs):
            return False
        return connection.scalar(select(self.id).where(self.is_cleared).limit(1)) is not None

    def refuse_other_outputs(self) -> None:
        """Raise UsageError for a run whose outputs do not go into the column of vectors, if that is a run's own."""
        if self.has_keys:
            raise UsageError(
                f"the table {self.sql.name} has vectors in the column {self.vector}, and this run has other outputs, "
                "so that rows would have both; name another table with into, or drop this one"
            )

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
        names = (table.vector, KEY_COLUMN, "model", REVISION_COLUMN)
        empty = dict.fromkeys((name for name in names if name in target.c), null())
        connection.execute(target.update().where(table.id.in_(left)).values(empty))
        log.warning("run.vectors_cleared", count=count, table=target.name)
    return count
