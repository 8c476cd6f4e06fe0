"""Types of columns in a user's table, in the database's spelling, and the type that vectors get there.

Vectors are pgvector's `vector(n)` where that extension is installed, else `real[]`, and a blob of float32 on SQLite.
"""

from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.types import NullType, TypeEngine, UserDefinedType

from models.dialects.columns import Vector
from models.vectors import MAX_DIMENSIONS, NUMBER_BYTES
from producer.results.tables.sql_names import literal_statement, qualified_name, quote_name

# SQLAlchemy warns of types that it does not know, such as those of extensions.
SELECT_COLUMN_TYPES = """
SELECT attname, upper(format_type(atttypid, atttypmod)) AS sql_type FROM pg_attribute
WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

FIND_PGVECTOR = """
SELECT n.nspname FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = 'vector'
WHERE e.extname = 'vector' AND has_schema_privilege(n.oid, 'USAGE') AND has_type_privilege(t.oid, 'USAGE')
"""

VECTOR_TYPES = ("VECTOR", "REAL[]", "BLOB")  # how the types of columns for vectors begin

# Column types that take vectors and leave their dimensions open.
OPEN_TYPES = {"postgresql": ("VECTOR", "REAL[]"), "sqlite": ("BLOB",)}
COUNT_NUMBERS = {"postgresql": "cardinality(CAST(vector AS real[]))", "sqlite": f"length(vector) / {NUMBER_BYTES}"}
SELECT_DIMENSIONS = """
SELECT {count} FROM (SELECT {column} AS vector FROM {table} WHERE {column} IS NOT NULL LIMIT 1) AS first
"""


class PgVector(UserDefinedType[Any]):
    """pgvector's type with its schema, because that may be missing from the search path."""

    cache_ok = True

    def __init__(self, schema_name: str, dimensions: int) -> None:
        self.schema_name = schema_name
        self.dimensions = dimensions

    def get_col_spec(self, **_: Any) -> str:
        """Return the type as SQL."""
        return f"{quote_name(self.schema_name)}.vector({self.dimensions})"


def read_column_types(connection: Connection, table_name: str, schema_name: str | None = None) -> dict[str, str]:
    """Return the types of a table's columns by name; empty for an unknown table, `schema_name` None = the default."""
    if connection.dialect.name == "postgresql":
        rows = connection.execute(text(SELECT_COLUMN_TYPES), {"table": qualified_name(table_name, schema_name)})
        return {row.attname: row.sql_type for row in rows}
    inspector = inspect(connection)
    columns = inspector.get_columns(table_name) if inspector.has_table(table_name) else []
    types = {column["name"]: column["type"] for column in columns}
    return {
        name: "" if isinstance(sql_type, NullType) else sql_type.compile(connection.dialect)
        for name, sql_type in types.items()
    }


def choose_vector_type(connection: Connection, dimensions: int) -> TypeEngine[Any]:
    """Return the type for vectors of so many numbers: pgvector's if it can hold them, else the database's own."""
    if connection.dialect.name != "postgresql" or dimensions > MAX_DIMENSIONS:
        return Vector()
    schema_name: str | None = connection.scalar(text(FIND_PGVECTOR))
    return Vector() if schema_name is None else PgVector(schema_name, dimensions)


def is_vector_type(sql_type: str) -> bool:
    """Return whether a column of this type, as `read_column_types` has it, may have vectors."""
    return _without_schema(sql_type).startswith(VECTOR_TYPES)


def diff_vector_type(
    connection: Connection, table: tuple[str, str | None], column: str, sql_type: str, dimensions: int
) -> tuple[str, str] | None:
    """Return how a column's type differs from one that takes vectors of so many numbers; None if it takes them.

    table: its name and schema; None = the default one
    sql_type: the column's type, as `read_column_types` has it

    A type that leaves the dimensions open takes only vectors like those that the table has.
    """
    name = _without_schema(sql_type)
    fixed, open_types = f"VECTOR({dimensions})", OPEN_TYPES[connection.dialect.name]
    if name == fixed:
        return None
    if name not in open_types:
        return name, fixed if name.startswith("VECTOR(") else " or ".join(open_types)
    query = SELECT_DIMENSIONS.format(
        count=COUNT_NUMBERS[connection.dialect.name], column=quote_name(column), table=qualified_name(*table)
    )
    existing = connection.scalar(literal_statement(query))
    if existing in (None, dimensions):
        return None
    return f"{name} of {existing} numbers", f"{name} of {dimensions} numbers"


def leaves_dimensions_open(connection: Connection, sql_type: str) -> bool:
    """Return whether a column of this type takes vectors of any dimensions."""
    return _without_schema(sql_type) in OPEN_TYPES[connection.dialect.name]


def _without_schema(sql_type: str) -> str:
    return sql_type.rpartition(".")[2]  # pgvector's schema may be missing from the search path
