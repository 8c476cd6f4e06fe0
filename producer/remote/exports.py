"""Exports that the server makes, received into files and tables of this machine."""

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from models.errors import UsageError
from models.vectors import NUMBER_BYTES
from producer.batch_access import Outcomes
from producer.remote.errors import AnswerLost
from producer.remote.http import ServerHttp
from producer.results import target_file

if TYPE_CHECKING:
    import numpy
    import pyarrow

NPY_HEADER = struct.Struct("<8sH")
READ_NUMBERS = 2**20 // 4
SERVER_FORMATS = {"jsonl": "ndjson"}
BATCH_ROWS = 1_000
BROKEN_OFF_MESSAGE = (
    "the server broke the export off twice at the same place; an output may be unlike the first one, which decides the "
    "columns: use to_jsonl() or results()"
)


@dataclass(frozen=True, slots=True)
class Download:
    """One export of one batch."""

    http: ServerHttp
    path: str  # of the batch
    after: int
    outcomes: Outcomes

    def write(self, file: IO[bytes], file_format: str) -> int:
        """Write the whole export, and return its number of lines; a lost connection starts again.

        Raises UsageError if a response breaks off twice at the same place: the server can't write a row.
        """
        params = {
            "format": SERVER_FORMATS.get(file_format, file_format),
            "after": self.after or None,
            "status": [outcome.value for outcome in self.outcomes] or None,
        }

        broken_at = -1
        has_begun = False  # without a response, the server may just be starting

        def receive() -> int:
            nonlocal broken_at, has_begun
            has_begun = False
            file.seek(0)
            file.truncate()
            try:
                return receive_once()
            except AnswerLost:
                received = file.tell()
                if has_begun and received == broken_at:
                    raise UsageError(BROKEN_OFF_MESSAGE) from None
                broken_at = received if has_begun else -1
                raise

        def receive_once() -> int:
            nonlocal has_begun
            lines = LineCounter(has_quotes=file_format == "csv")
            with self.http.stream(f"{self.path}/results", params) as response:
                has_begun = True
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    lines.add(chunk)
            return lines.count

        count: int = self.http.repeat(receive)
        return count


def export_file(download: Download, file_format: str, path: Path) -> int:
    """Write a file, which appears whole or not at all, and return the number of results in it; raises UsageError."""
    target_file.check_target(path, file_format)
    with target_file.open_target(path) as file:
        lines = download.write(file, file_format)
    if file_format == "npy":
        return count_vectors(path)
    if file_format == "parquet":
        return _count_parquet_rows(path)
    return lines - 1 if file_format == "csv" else lines


def open_arrow_reader(download: Download) -> "pyarrow.RecordBatchReader":
    """Return a RecordBatchReader of the results; the file behind it ends with it."""
    from pyarrow import OSFile, RecordBatchReader
    from pyarrow.parquet import ParquetFile

    with tempfile.NamedTemporaryFile() as file:
        download.write(file, "parquet")
        file.flush()
        parquet = ParquetFile(OSFile(file.name))  # it stays open when the name is gone
    schema = _without_parquet_names(parquet.schema_arrow)
    batches = (batch.cast(schema) for batch in parquet.iter_batches(BATCH_ROWS))
    return RecordBatchReader.from_batches(schema, batches)


def read_matrix(download: Download) -> "numpy.ndarray[Any, Any]":
    """Return the vectors as a matrix."""
    import numpy

    with tempfile.TemporaryFile() as file:
        download.write(file, "npy")
        file.seek(0)
        matrix: numpy.ndarray[Any, Any] = numpy.load(file, allow_pickle=False)
        return matrix


def _without_parquet_names(schema: "pyarrow.Schema") -> "pyarrow.Schema":
    """The schema with lists whose numbers have Arrow's name for them, and not Parquet's."""
    import pyarrow

    def field(of_file: "pyarrow.Field") -> "pyarrow.Field":
        if not pyarrow.types.is_fixed_size_list(of_file.type):
            return of_file
        return of_file.with_type(pyarrow.list_(of_file.type.value_type, of_file.type.list_size))

    return pyarrow.schema([field(of_file) for of_file in schema])


def _count_parquet_rows(path: Path) -> int:
    from pyarrow.parquet import read_metadata

    count: int = read_metadata(path).num_rows
    return count


class LineCounter:
    """Counts lines while they pass by.

    has_quotes: whether line breaks may stand within quotes, as in CSV, and end no line there
    """

    def __init__(self, *, has_quotes: bool) -> None:
        self.count = 0
        self._has_quotes = has_quotes
        self._is_quoted = False

    def add(self, chunk: bytes) -> None:
        """Count the ends of lines in the next part."""
        if not self._has_quotes:
            self.count += chunk.count(b"\n")
            return
        parts = chunk.split(b'"')
        self.count += sum(part.count(b"\n") for part in parts[self._is_quoted :: 2])
        self._is_quoted ^= len(parts) % 2 == 0


def count_vectors(path: Path) -> int:
    """Return how many rows of a .npy file are vectors; the others are NaN."""
    count = 0
    with path.open("rb") as file:
        _, header_length = NPY_HEADER.unpack(file.read(NPY_HEADER.size))
        shape = file.read(header_length).decode("latin-1").partition("'shape': (")[2].partition(")")[0]
        rows, dimensions = (int(number) for number in shape.split(",") if number.strip())
        rows_at_once = max(1, READ_NUMBERS // dimensions)
        for start in range(0, rows, rows_at_once):
            content = file.read(min(rows_at_once, rows - start) * dimensions * NUMBER_BYTES)
            firsts = memoryview(content).cast("f")[::dimensions]
            count += sum(number == number for number in firsts)  # NaN is not equal to itself
    return count
