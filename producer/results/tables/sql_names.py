"""Names of users' tables and columns in SQL, quoted for both databases."""

from sqlalchemy import TextClause, text


def quote_name(name: str) -> str:
    """Quote any name for both databases; SQLAlchemy's own quoting would double a %, which COPY takes literally."""
    return '"' + name.replace('"', '""') + '"'


def qualified_name(table_name: str, schema_name: str | None) -> str:
    """Quote a table's name with its schema; None = the default one."""
    return ".".join(map(quote_name, filter(None, (schema_name, table_name))))


def literal_statement(statement: str) -> TextClause:
    """Return a statement without parameters, in which colons are escaped."""
    return text(statement.replace(":", "\\:"))
