"""Careful loading: a value of a query that Python can't hold is its row's problem, and not the whole fetch's."""

from typing import Any

from producer.readers.storable import UnreadableValue

# PostgreSQL knows moments that Python does not, such as `infinity` or 44 BC, and documents that are nested too deeply.
UNSAFE_TYPES = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb")
OUT_OF_RANGE_MESSAGE = "has a value that Python can't hold, such as a date past the year 9999; select it as text"


def register_safe_loaders(connection: Any) -> None:
    """Have a connection of psycopg load such values as Unreadable."""
    from psycopg.pq import Format

    adapters = connection.adapters
    for name in UNSAFE_TYPES:
        oid = adapters.types[name].oid
        for format_ in (Format.TEXT, Format.BINARY):
            loader = adapters.get_loader(oid, format_)
            if loader is not None:
                adapters.register_loader(oid, _safe_loader(loader))


def decode_text(raw: bytes) -> str | UnreadableValue:
    """SQLite's text, which need not be any."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UnreadableValue("has text that is not UTF-8; mend it, or select it as a blob in hex()")


def _safe_loader(loader_class: Any) -> Any:
    class Careful:
        """The driver's own loader, asked first."""

        format = loader_class.format

        def __init__(self, oid: int, context: Any = None) -> None:
            self._load = loader_class(oid, context).load

        def load(self, data: Any) -> Any:
            """The value, or Unreadable."""
            try:
                return self._load(data)
            except MemoryError:
                raise
            except Exception:
                return UnreadableValue(OUT_OF_RANGE_MESSAGE)

    return Careful
