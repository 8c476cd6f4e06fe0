"""Safe loaders make a value that Python can't hold a problem of its row, and not of the whole fetch."""

from typing import Any

from producer.readers.storable import UnreadableValue

# PostgreSQL has times that Python has not, such as `infinity` or 44 BC, and allows more deeply nested documents.
UNSAFE_TYPES = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb")
OUT_OF_RANGE_MESSAGE = "has a value that Python can't hold, such as a date past the year 9999; select it as text"


def register_safe_loaders(connection: Any) -> None:
    """Let a psycopg connection load such values as UnreadableValue."""
    from psycopg.pq import Format

    adapters = connection.adapters
    for name in UNSAFE_TYPES:
        oid = adapters.types[name].oid
        for format_ in (Format.TEXT, Format.BINARY):
            loader = adapters.get_loader(oid, format_)
            if loader is not None:
                adapters.register_loader(oid, _safe_loader(loader))


def decode_text(raw: bytes) -> str | UnreadableValue:
    """Decode SQLite's text, which may not be UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UnreadableValue("has text that is not UTF-8; repair it, or select it as hex()")


def _safe_loader(loader_class: Any) -> Any:
    class SafeLoader:
        """Calls the driver's loader, and replaces its errors."""

        format = loader_class.format

        def __init__(self, oid: int, context: Any = None) -> None:
            self._load = loader_class(oid, context).load

        def load(self, data: Any) -> Any:
            """The value, or an UnreadableValue."""
            try:
                return self._load(data)
            except MemoryError:
                raise
            except Exception:
                return UnreadableValue(OUT_OF_RANGE_MESSAGE)

    return SafeLoader
