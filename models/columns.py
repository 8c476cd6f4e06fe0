"""Column types: how ids, documents, numbers and moments are kept by either database."""

from datetime import UTC, datetime

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, FetchedValue, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

# Byte order: an id needs no locale, and comparing by one costs a third of an insert on PostgreSQL.
Key = Text().with_variant(Text(collation="C"), "postgresql")
Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
RowId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows only in a plain INTEGER key


# The database's own clock fills these in; each dialect's expression stands in the migration.
DATABASE_CLOCK = FetchedValue()


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware and in UTC in Python, `timestamptz` on PostgreSQL, UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite has no zones: store UTC without one."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What comes back without a zone is UTC."""
        return value if value is None else (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))
