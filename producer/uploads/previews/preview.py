"""The beginning of an uploaded file: its format, columns and first rows, for somebody who has to say what they are."""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from models.documents import to_json
from models.errors import (
    BatchmillError,
    FileStoreUnavailable,
    JobError,
    SourceNotReady,
    SourceTooLarge,
    Unreachable,
    UsageError,
)
from models.settings import Settings
from producer import readers
from producer.readers import DELIMITERS
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files.compression import GZIP_MAGIC, ZSTD_MAGIC, decompress
from producer.readers.files.sniffing import SNIFFED_BYTES, find_format
from producer.readers.files.source_files import FILE_FORMATS
from producer.readers.limits import Limits, OutOfTime
from producer.readers.mapping_advice import PAGE_ADVICE
from producer.readers.parquet.footer import read_row_groups
from producer.readers.rows import Problem
from producer.uploads.files import FileView
from producer.uploads.storage.store import FileStore

MAX_ROWS, MAX_SECONDS = 200, 2.0  # that are read
MAX_BYTES = 32 * 2**20  # of them, uncompressed; two rows of the greatest length
SHOWN_ROWS, SHOWN_COLUMNS = 10, 50
MAX_COLUMNS, MAX_NAME_CHARACTERS = 500, 200  # that are offered as inputs
MAX_CELL_CHARACTERS, MAX_HIDDEN_CELL_CHARACTERS = 2_000, 60
MAX_PROBLEMS = 20
NO_ROWS_MESSAGE = (
    f"the file has no row within its first {MAX_BYTES // 2**20} MiB, unpacked, or {MAX_SECONDS:g} s of reading; "
    "submit it by the command line"
)
OPENAI_KEYS = {"custom_id", "method", "url", "body"}  # of a line in OpenAI's batch format
LINE_TEXT = "text"  # the name of the only column of records that are bare texts
NUMBER = re.compile(r"[-+]?\d{1,18}(\.\d{1,18})?")  # as a cell of CSV, which has only texts
ANY_COLUMNS = ColumnMapping((), (), is_id_required=False, keeps_all=True, advice=PAGE_ADVICE)
COMPRESSIONS = {GZIP_MAGIC: "gzip", ZSTD_MAGIC: "Zstandard"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as text, cut to MAX_CELL_CHARACTERS.

    kind: text, number, boolean, list, object, other, or empty
    characters: of the whole text
    """

    text: str
    kind: str
    characters: int


EMPTY_CELL = Cell("", "empty", 0)


@dataclass(slots=True)
class ColumnSummary:
    """What the sampled rows have in one column.

    is_shown: it is one of the first SHOWN_COLUMNS; of the others, cells are cut to MAX_HIDDEN_CELL_CHARACTERS
    kinds: of its cells that are not empty, in the order in which they came
    """

    name: str
    is_shown: bool = True
    filled: int = 0
    characters: int = 0
    kinds: dict[str, None] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of its values; mixed, if there are several."""
        return "empty" if not self.kinds else next(iter(self.kinds)) if len(self.kinds) == 1 else "mixed"

    @property
    def mean_characters(self) -> float:
        """The mean length of its values as text."""
        return self.characters / self.filled if self.filled else 0.0

    def add(self, cell: Cell) -> None:
        """Count one cell."""
        if cell.kind != "empty":
            self.filled += 1
            self.characters += cell.characters
            self.kinds[cell.kind] = None


@dataclass(slots=True)
class Preview:
    """What the beginning of a file shows.

    columns: of the sampled rows; without any for records that are bare texts
    rows: the first, by their location, with a cell for each column
    problems: of sampled rows that can't be read, each with its location
    has_hidden_columns: there are more columns, or some without a name that can be shown
    is_whole: the file has no more rows than the sample
    row_count: of the whole file, None = not known; with `is_count_exact` False it is the number of lines
    error: why the file can't be read, or not any further
    has_header: its first line has the names of the columns
    doubt: why that may be wrong; None = nothing shows that
    """

    file_format: str
    compression: str | None
    has_byte_order_mark: bool
    unit: str
    columns: dict[str, ColumnSummary] = field(default_factory=dict)
    rows: list[tuple[int, dict[str, Cell]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sampled_rows: int = 0
    invalid_rows: int = 0
    has_hidden_columns: bool = False
    has_bare_texts: bool = False
    is_whole: bool = False
    row_count: int | None = None
    is_count_exact: bool = False
    error: str | None = None
    has_header: bool = False
    doubt: str | None = None

    @property
    def has_too_many_columns(self) -> bool:
        """Whether the file may have columns that are not in the list, so that their names have to be typed."""
        return len(self.columns) >= MAX_COLUMNS and self.has_hidden_columns

    @property
    def is_openai_format(self) -> bool:
        """Whether the rows are requests of OpenAI's batch format."""
        return self.file_format == "jsonl" and set(self.columns) >= OPENAI_KEYS


def preview_file(
    settings: Settings,
    store: FileStore,
    file: FileView,
    file_format: str | None = None,
    column_names: str | Sequence[str] = "",
) -> Preview:
    """Read the beginning of a file.

    file_format: one of FILE_FORMATS; None = by the file's name, or else by its content
    column_names: of a table without a header; empty = the file has one

    Raises UsageError for an unknown format, SourceNotReady if another machine has the file, and FileStoreUnavailable.
    """
    if file_format is not None and file_format not in FILE_FORMATS:
        raise UsageError(f"there is no file_format {file_format[:80]!r}; use {', '.join(FILE_FORMATS)}")
    preview = _begin(store, file, file_format)
    if preview.error is not None:
        return preview
    limits = Limits.from_settings(settings)
    cut = replace(limits, max_source_bytes=min(limits.max_source_bytes, MAX_BYTES), max_seconds=MAX_SECONDS)
    try:
        columns = ANY_COLUMNS.with_header(column_names or None)
        preview.has_header = preview.file_format in DELIMITERS and not columns.header
        with (
            store.open(file.location or "") as stream,
            readers.open_records(stream, "the file", preview.file_format, columns, cut) as (records, doubts),
        ):
            preview.doubt = next(iter(doubts), None)
            _sample(preview, records, is_cut=cut.max_source_bytes < limits.max_source_bytes)
        _count_rows(preview, store, file)
    except (SourceNotReady, FileStoreUnavailable, Unreachable):
        raise
    except BatchmillError as error:
        preview.error = NO_ROWS_MESSAGE if isinstance(error, OutOfTime) else str(error)
    return preview


def _begin(store: FileStore, file: FileView, file_format: str | None) -> Preview:
    """Find out the format, the compression and the encoding."""
    store.check_whole(file.location or "", file.size_bytes or 0)
    with store.open(file.location or "") as stream:
        magic = stream.read(4)
    compression = next((name for start, name in COMPRESSIONS.items() if magic.startswith(start)), None)
    error, has_mark = None, False
    try:
        with store.open(file.location or "") as stream:
            file_format = file_format or find_format(file.filename, decompress(stream, "the file"))
        with store.open(file.location or "") as stream:
            has_mark = decompress(stream, "the file").read(SNIFFED_BYTES).startswith(codecs.BOM_UTF8)
    except (SourceNotReady, FileStoreUnavailable, Unreachable):
        raise
    except BatchmillError as raised:
        error = str(raised)
    unit = "row" if file_format == "parquet" else "line"
    return Preview(file_format or "text", compression, has_mark, unit, error=error)


def _sample(preview: Preview, records: Iterable[tuple[int, object] | Problem], *, is_cut: bool) -> None:
    """Read the first rows.

    is_cut: whether the reader stops at MAX_BYTES, where the operator's limit is higher
    """
    iterator = iter(records)
    try:
        for record in islice(iterator, MAX_ROWS):
            preview.sampled_rows += 1
            if isinstance(record, Problem):
                _note_problem(preview, record)
            else:
                _add_record(preview, *record)
        preview.is_whole = next(iterator, None) is None
    except SourceTooLarge as error:
        if not is_cut and not isinstance(error, OutOfTime):
            raise
        if not preview.sampled_rows:
            raise SourceTooLarge(NO_ROWS_MESSAGE) from None


def _note_problem(preview: Preview, problem: Problem) -> None:
    preview.invalid_rows += 1
    if len(preview.problems) < MAX_PROBLEMS:
        preview.problems.append(f"{preview.unit} {problem.location}: {problem.message}")


def _add_record(preview: Preview, location: int, record: object) -> None:
    cells = {}
    for name, value in _named_values(preview, record):
        if name not in preview.columns:
            if len(preview.columns) >= MAX_COLUMNS:
                preview.has_hidden_columns = True
                continue
            preview.columns[name] = ColumnSummary(name, is_shown=len(preview.columns) < SHOWN_COLUMNS)
        column = preview.columns[name]
        cell = make_cell(value, has_only_texts=preview.file_format in DELIMITERS)
        column.add(cell)
        cells[name] = cell if column.is_shown else replace(cell, text=cell.text[:MAX_HIDDEN_CELL_CHARACTERS])
    if len(preview.rows) < SHOWN_ROWS:
        preview.rows.append((location, cells))


def _named_values(preview: Preview, record: object) -> Iterator[tuple[str, object]]:
    if not isinstance(record, dict):
        preview.has_bare_texts = True
        yield LINE_TEXT, record
        return
    for name, value in record.items():
        if 0 < len(str(name)) <= MAX_NAME_CHARACTERS:
            yield str(name), value
        else:
            preview.has_hidden_columns = True


def make_cell(value: Any, *, has_only_texts: bool = False) -> Cell:
    """Return a value of a record as a cell. Pure.

    has_only_texts: the format has no numbers, so a text that looks like one counts as one
    """
    if value is None or value == "":
        return EMPTY_CELL
    if isinstance(value, str):
        is_number = has_only_texts and NUMBER.fullmatch(value.strip()) is not None
        return Cell(value[:MAX_CELL_CHARACTERS], "number" if is_number else "text", len(value))
    kinds = ((bool, "boolean"), (int | float, "number"), (list | tuple, "list"), (dict, "object"))
    kind = next((name for types, name in kinds if isinstance(value, types)), "other")
    text = _as_json(value)
    return Cell(text[:MAX_CELL_CHARACTERS], kind, len(text))


def _as_json(value: object) -> str:
    try:
        return to_json(value)
    except (TypeError, ValueError, RecursionError, JobError):
        return str(value)


def _count_rows(preview: Preview, store: FileStore, file: FileView) -> None:
    if preview.is_whole:
        preview.row_count, preview.is_count_exact = preview.sampled_rows, True
    elif preview.compression is not None:
        preview.row_count = None
    elif preview.file_format == "parquet":
        with store.open(file.location or "") as stream:
            preview.row_count = sum(group.row_count for group in read_row_groups(stream, ()))
        preview.is_count_exact = True
    elif file.rows is not None:
        preview.row_count = file.rows - preview.has_header
