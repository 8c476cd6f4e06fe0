"""Requests as a browser sends them, without a server."""

from fastapi import Request


def request_of(
    headers: dict[str, str] | None = None, scheme: str = "http", method: str = "POST", path: str = "/batches"
) -> Request:
    fields = {"host": "127.0.0.1:8000", **(headers or {})}
    return Request(
        {
            "type": "http",
            "method": method,
            "scheme": scheme,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
    )
