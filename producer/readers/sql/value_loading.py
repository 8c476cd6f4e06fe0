"""Careful loading: a value of a query that Python can't hold is its row's problem, and not the whole fetch's."""

from typing import Any

from producer.readers.storable import Unreadable

# PostgreSQL knows moments that Python does not, such as `infinity` or 44 BC, and documents that are nested too deeply.
TYPES = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb")
BEYOND = "has a value that Python can't hold, such as a date past the year 9999; select it as text"


def load_values(connection: Any) -> None:
    """Have a connection of psycopg load such values as Unreadable."""
    from psycopg.pq import Format

    adapters = connection.adapters
    for name in TYPES:
        oid = adapters.types[name].oid
        for format_ in (Format.TEXT, Format.BINARY):
            loader = adapters.get_loader(oid, format_)
            if loader is not None:
                adapters.register_loader(oid, _careful(loader))


def text_of(raw: bytes) -> str | Unreadable:
    """SQLite's text, which need not be any."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Unreadable("has text that is not UTF-8; mend it, or select it as a blob in hex()")


def _careful(loader: Any) -> Any:
    class Careful:
        """The driver's own loader, asked first."""

        format = loader.format

        def __init__(self, oid: int, context: Any = None) -> None:
            self._load = loader(oid, context).load

        def load(self, data: Any) -> Any:
            """The value, or Unreadable."""
            try:
                return self._load(data)
            except MemoryError:
                raise
            except Exception:
                return Unreadable(BEYOND)

    return Careful
