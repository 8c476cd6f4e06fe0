"""A form with one file and a few short fields is taken in part by part, in constant memory.

`python_multipart` finds the parts; the limits, the file's way into the store and the errors are ours. Whatever breaks
off or is malformed leaves nothing behind.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from models.errors import InvalidUpload, SourceTooLarge
from producer.uploads.storage.store import FileStore, FileWriter, StoredBytes

# Its warnings quote bytes of the form.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

FILE_FIELD = "file"
MAX_FIELDS, MAX_FIELD_NAME_BYTES, MAX_FIELD_BYTES = 20, 100, 64 * 2**10
MAX_HEADERS, MAX_HEADER_BYTES = 8, 4096  # of one part
MAX_FILENAME_CHARACTERS = 200
DEFAULT_FILENAME = "upload"
# What is around the file: the headers and values of all parts.
MAX_OVERHEAD_BYTES = (MAX_FIELDS + 1) * (MAX_FIELD_BYTES + MAX_HEADERS * MAX_HEADER_BYTES)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file whose bytes are stored, with the fields of its form; it still needs a row in SQL.

    filename: the client's, for display only
    """

    filename: str
    stored: StoredBytes
    fields: dict[str, str]


@dataclass(slots=True)
class _Part:
    """The part that is being read."""

    headers: dict[str, bytes] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class MultipartReceiver:
    """Takes the bytes of a form in any pieces; leaving the block discards a file that was not finished.

    content_type: the header of the request, which has the boundary
    check_fields: called before the file with the fields that precede it; raises what ends the upload
    """

    def __init__(
        self,
        store: FileStore,
        content_type: str | None,
        max_file_bytes: int,
        check_fields: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        self._store = store
        self._check_fields = check_fields
        self._max_file_bytes = max_file_bytes
        self._part = _Part()
        self._writer: FileWriter | None = None
        self._filename = DEFAULT_FILENAME
        self._fields: dict[str, str] = {}
        self._is_complete = False
        self._received_bytes = 0
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._read_header_name,
                "on_header_value": self._read_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._read_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.discard()

    def feed(self, data: bytes) -> None:
        """Take bytes; raises InvalidUpload, SourceTooLarge or FileStoreUnavailable."""
        self._received_bytes += len(data)
        if self._received_bytes > self._max_file_bytes + MAX_OVERHEAD_BYTES:
            raise _too_large_error(self._max_file_bytes)
        try:
            self._parser.write(data)
        except FormParserError:
            raise InvalidUpload("the form is malformed: it must be multipart/form-data as RFC 7578 has it") from None

    def finish(self) -> Upload:
        """Make the file durable; raises InvalidUpload if the form has not ended, or has no file."""
        if not self._is_complete:
            raise InvalidUpload("the form ends before its last boundary; it was cut off, so send it again")
        if self._writer is None:
            raise InvalidUpload(f"the form has no file; send one in the field {FILE_FIELD!r}")
        return Upload(self._filename, self._writer.commit(), self._fields)

    def _begin_part(self) -> None:
        if len(self._fields) + (self._writer is not None) > MAX_FIELDS:
            raise InvalidUpload(f"the form has more than {MAX_FIELDS} fields; send only the file and its options")
        self._part = _Part()

    def _read_header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _read_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _end_header(self) -> None:
        part = self._part
        name = part.header_name.decode("latin-1").lower()
        if name in part.headers:
            raise InvalidUpload("a part of the form has the same header twice")
        part.headers[name] = bytes(part.header_value)
        part.header_name, part.header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        part = self._part
        kind, options = parse_options_header(part.headers.get("content-disposition", b""))
        name = options.get(b"name", b"")
        if kind != b"form-data" or not name or len(name) > MAX_FIELD_NAME_BYTES:
            raise InvalidUpload(f"a part of the form has no name of 1 to {MAX_FIELD_NAME_BYTES} characters")
        if part.headers.get("content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise InvalidUpload("a part of the form has a Content-Transfer-Encoding; send its bytes as they are")
        part.name = name.decode("utf-8", "replace")
        if part.name in self._fields or (part.name == FILE_FIELD and self._writer is not None):
            raise InvalidUpload(f"the form has the field {_shown(part.name)} twice; send it once, and a list as JSON")
        part.is_file = part.name == FILE_FIELD
        if part.is_file:
            if self._check_fields is not None:
                self._check_fields(self._fields)
            self._filename = safe_filename(options.get(b"filename", b""))
            self._writer = self._store.create()
        elif b"filename" in options:
            raise InvalidUpload(f"the form has a file in the field {_shown(part.name)}; send one, in {FILE_FIELD!r}")

    def _read_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if not part.is_file:
            part.value += data[start:end]
            if len(part.value) > MAX_FIELD_BYTES:
                raise InvalidUpload(
                    f"the field {_shown(part.name)} of the form has more than {MAX_FIELD_BYTES:,} bytes; send long "
                    "texts as a file"
                )
            return
        assert self._writer is not None
        if self._writer.size_bytes + end - start > self._max_file_bytes:
            raise _too_large_error(self._max_file_bytes)
        self._writer.write(data[start:end])

    def _end_part(self) -> None:
        part = self._part
        if part.is_file:
            return
        try:
            self._fields[part.name] = part.value.decode()
        except UnicodeDecodeError:
            raise InvalidUpload(f"the field {_shown(part.name)} of the form is not UTF-8") from None

    def _end(self) -> None:
        self._is_complete = True


class BodyReceiver:
    """Takes a body that is the file itself; leaving the block discards a file that was not finished."""

    def __init__(self, store: FileStore, max_file_bytes: int, filename: str = DEFAULT_FILENAME) -> None:
        self._writer = store.create()
        self._max_file_bytes = max_file_bytes
        self._filename = filename

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._writer.discard()

    def feed(self, data: bytes) -> None:
        """Take bytes; raises SourceTooLarge or FileStoreUnavailable."""
        if self._writer.size_bytes + len(data) > self._max_file_bytes:
            raise _too_large_error(self._max_file_bytes)
        self._writer.write(data)

    def finish(self) -> Upload:
        """Make the file durable."""
        return Upload(self._filename, self._writer.commit(), {})


def check_length(content_length: str | None, max_file_bytes: int) -> None:
    """Raise SourceTooLarge before anything is received, if a request says that its body is too long."""
    text = content_length or ""
    is_number = text.isascii() and text.isdecimal() and len(text) < 20
    if is_number and int(text) > max_file_bytes + MAX_OVERHEAD_BYTES:
        raise _too_large_error(max_file_bytes)


def safe_filename(name: bytes | str) -> str:
    """A client's name of a file for display: its last part, without control characters, and never empty."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    last = text.replace("\\", "/").rpartition("/")[2]
    printable = "".join(character for character in last if character.isprintable()).strip()
    return printable[-MAX_FILENAME_CHARACTERS:] if printable.strip(".") else DEFAULT_FILENAME


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type or "")
    if kind != b"multipart/form-data":
        raise InvalidUpload("send the file as multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 70:
        raise InvalidUpload("the Content-Type has no boundary of 1 to 70 characters")
    return boundary


def _shown(name: str) -> str:
    """A field's name for a message."""
    return repr("".join(character for character in name if character.isprintable())[:40])


def _too_large_error(max_bytes: int) -> SourceTooLarge:
    return SourceTooLarge(f"the file has more than {max_bytes:,} bytes (max_upload_bytes); split it")
