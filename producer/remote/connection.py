"""A client's connection to a server."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from models.errors import UsageError
from producer.batches.batch_view import BatchView
from producer.connection import BatchQuery, Submitted
from producer.readers.input_source import PythonSource
from producer.remote.address import ServerAddress
from producer.remote.batch import RemoteBatch
from producer.remote.documents import batch_view
from producer.remote.http import ServerHttp
from producer.remote.sending import submission
from producer.submission.options import SubmitOptions

PAGE_BATCHES = 1_000  # read at once


class RemoteConnection:
    """Submits and finds batches over HTTP."""

    def __init__(self, address: ServerAddress) -> None:
        self._address = address

    @cached_property
    def _http(self) -> ServerHttp:
        return ServerHttp(self._address)

    def submit(self, pipeline: str, source: PythonSource, options: SubmitOptions) -> Submitted:
        """Submit one batch."""
        document = submission.submit(self._http, pipeline, source, options)
        return Submitted(self.batch(document["id"]), document.get("warning"), bool(document.get("already_submitted")))

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the access to a batch."""
        return RemoteBatch(self._http, batch_id)

    def list_batches(self, limit: int | None, query: BatchQuery) -> list[tuple[RemoteBatch, BatchView]]:
        """Return the newest batches, the newest first."""
        if query.tenant is not None:
            raise UsageError("over HTTP the API key says whose batches are listed; leave out tenant")
        found: list[tuple[RemoteBatch, BatchView]] = []
        after = query.after
        while limit is None or len(found) < limit:
            page_size = PAGE_BATCHES if limit is None else min(limit - len(found), PAGE_BATCHES)
            page = self._http.get("/api/batches", {**_list_params(query), "limit": page_size, "after": after})
            found += ((self.batch(document["id"]), batch_view(document)) for document in page["data"])
            after = page["last_id"]
            if not page["has_more"]:
                break
        return found

    def close(self) -> None:
        """Close all connections."""
        if "_http" in self.__dict__:
            self.__dict__.pop("_http").close()


def _list_params(query: BatchQuery) -> Mapping[str, Any]:
    return {
        "status": query.status,
        "pipeline": query.pipeline,
        "name": query.name,
        "search": query.search,
        "since": query.since and query.since.astimezone().isoformat(),
        "until": query.until and query.until.astimezone().isoformat(),
    }
