"""The rows of a batch that is read later: those of an uploaded file, of a query, or of another batch's results."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from models.errors import UsageError
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer import readers
from producer.endpoints import find_endpoint
from producer.readers import input_source
from producer.readers.files.compression import decompress
from producer.readers.limits import Limits
from producer.readers.rows import Source
from producer.readers.text import openai_lines
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.storage.store import FileStore


@contextmanager
def open_file(
    limits: Limits, store: FileStore, location: str, file_id: str, pipeline: Pipeline, read_request: ReadRequest
) -> Iterator[Source]:
    """The rows of an uploaded file.

    Raises UnreadableSource, SourceNotReady if another machine has the file, and FileStoreUnavailable.
    """
    with store.open(location) as stream:
        if read_request.endpoint is not None:
            yield _open_lines(stream, file_id, read_request.endpoint, pipeline, limits)
            return
        columns = read_request.columns(pipeline)
        with readers.open_stream(stream, file_id, read_request.file_format, columns, limits) as source:
            yield source


@contextmanager
def open_other(settings: Settings, pipeline: Pipeline, read_request: ReadRequest) -> Iterator[Source]:
    """The rows of a query, or of the results of another batch."""
    with input_source.open_source(
        settings,
        read_request.columns(pipeline),
        paths=(),
        file_format=None,
        source_name=read_request.sql,
        query_params=dict(read_request.bind or {}),
        selection=read_request.selection,
        keep_invalid=read_request.keep_invalid,
    ) as source:
        yield source


def _open_lines(stream: BinaryIO, name: str, path: str, pipeline: Pipeline, limits: Limits) -> Source:
    endpoint = find_endpoint(path)
    if endpoint is None:
        raise UsageError(f"there is no endpoint {path[:80]!r} in this version of Batchmill; submit the file again")
    fields = [field.name for field in pipeline.spec.fields]
    return openai_lines.open_lines(decompress(stream, name), name, endpoint, fields, limits)
