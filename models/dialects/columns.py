"""Column types for ids, documents, numbers and times on both databases."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, REAL, BigInteger, DateTime, Dialect, FetchedValue, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

from models import vectors

# Ids compare in byte order: comparing by a locale costs a third of an insert on PostgreSQL.
Key = Text().with_variant(Text(collation="C"), "postgresql")
Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
RowId = BigInteger().with_variant(Integer, "sqlite")  # SQLite generates ids only for a plain INTEGER key


# The database's own clock fills these columns; the migration holds each dialect's expression.
DATABASE_CLOCK = FetchedValue()


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: aware and in UTC in Python, `timestamptz` on PostgreSQL, UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC without a time zone on SQLite, which has no time zones."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time in UTC; values without a time zone are UTC already."""
        return value if value is None else (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


class Vector(TypeDecorator[bytes]):
    """A vector: float32 bytes in Python and on SQLite, see `models/vectors.py`; `real[]` on PostgreSQL."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        return dialect.type_descriptor(ARRAY(REAL, dimensions=1) if dialect.name == "postgresql" else LargeBinary())

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> Any:
        """Convert to a list of numbers on PostgreSQL."""
        return value if value is None or dialect.name != "postgresql" else vectors.to_numbers(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        """Convert from a list of numbers on PostgreSQL."""
        return value if value is None or dialect.name != "postgresql" else vectors.from_numbers(value)
