"""A client's connection to a server."""

from producer.batch_access import BatchAccess
from producer.batches.batch_view import BatchView
from producer.connection import BatchQuery, Submitted
from producer.readers.input_source import PythonSource
from producer.remote.address import ServerAddress
from producer.submission.options import SubmitOptions


class RemoteConnection:
    """Submits and finds batches over HTTP."""

    def __init__(self, address: ServerAddress) -> None:
        self._address = address

    def submit(self, pipeline: str, source: PythonSource, options: SubmitOptions) -> Submitted:
        raise NotImplementedError

    def batch(self, batch_id: str) -> BatchAccess:
        raise NotImplementedError

    def list_batches(self, limit: int | None, query: BatchQuery) -> list[tuple[BatchAccess, BatchView]]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
