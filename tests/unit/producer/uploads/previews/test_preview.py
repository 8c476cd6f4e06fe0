"""What the beginning of an uploaded file shows, whatever it has."""

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.errors import MissingSource, UsageError
from models.settings import Settings
from producer.readers import limits
from producer.uploads.files import FileView
from producer.uploads.previews import preview
from producer.uploads.previews.preview import Preview, make_cell, preview_file
from producer.uploads.storage.local_store import LocalStore

Look = Callable[..., Preview]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    monkeypatch.setattr(preview, "MAX_SECONDS", 100.0)  # a busy machine is no large file
    store = LocalStore(tmp_path / "files")

    def preview_of(
        content: bytes, filename: str = "a.csv", file_format: str | None = None, column_names: str = ""
    ) -> Preview:
        with store.create() as writer:
            writer.write(content)
            stored = writer.commit()
        now = datetime.now(UTC)
        names = {"id": "file-a", "tenant": "default", "filename": filename, "purpose": "batch"}
        file = FileView(
            **names,
            location=stored.location,
            size_bytes=stored.size_bytes,
            rows=stored.lines,
            sha256=stored.sha256,
            batch_id=None,
            etag=None,
            created_at=now,
            expires_at=None,
        )
        return preview_file(Settings(), store, file, file_format, column_names)

    return preview_of


def test_a_table_shows_its_columns_and_rows(look: Look) -> None:
    shown = look(b"id,text,stars\n1,a fine day,5\n2,a bad day,\n")

    assert (shown.file_format, shown.compression, shown.unit) == ("csv", None, "line")
    assert [(c.name, c.kind, c.filled) for c in shown.columns.values()] == [
        ("id", "number", 2),
        ("text", "text", 2),
        ("stars", "number", 1),
    ]
    assert [(location, cells["text"].text) for location, cells in shown.rows] == [(2, "a fine day"), (3, "a bad day")]
    assert (shown.sampled_rows, shown.row_count, shown.is_count_exact, shown.is_whole) == (2, 2, True, True)


def test_a_table_without_a_header_has_the_names_that_are_given(look: Look) -> None:
    content = b"17,a fine day\n23,a bad day\n"

    doubtful, shown = look(content), look(content, column_names="id,text")
    wrong, other = look(content, column_names="id"), look(b'"a"\n', "a.jsonl", column_names="text")

    assert doubtful.doubt is not None
    assert doubtful.doubt.startswith("the first line is taken as the names of the columns: '17', 'a fine day'; ")
    assert doubtful.doubt.endswith("if it is data, name the columns in the form")
    assert (list(shown.columns), shown.sampled_rows, shown.row_count, shown.doubt) == (["id", "text"], 2, 2, None)
    assert "has 2 cells in line 1, and 1 column name (id)" in str(wrong.error)
    assert "column names are for CSV and TSV" in str(other.error)


def test_rows_are_counted_by_lines_with_or_without_a_header(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_ROWS", 20)
    content = b"a fine day\n" * 100

    assert (look(content).row_count, look(content, column_names="text").row_count) == (99, 100)


def test_only_the_start_of_a_long_file_is_read(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_ROWS", 20)

    plain = look(b"text\n" + b"a fine day\n" * 1_000)
    packed = look(gzip.compress(b"text\n" + b"a fine day\n" * 1_000), "a.csv.gz")

    assert (plain.sampled_rows, plain.row_count, plain.is_count_exact) == (20, 1_000, False)
    assert (packed.sampled_rows, packed.row_count, packed.compression) == (20, None, "gzip")
    assert len(plain.rows) == preview.SHOWN_ROWS


def test_rows_of_many_bytes_are_no_error(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_BYTES", 10_000)

    shown = look(b"text\n" + (b"x" * 3_000 + b"\n") * 10)
    blank = look(b"\n" * 20_000, "a.txt")

    assert (shown.error, shown.sampled_rows, shown.is_whole, shown.row_count) == (None, 3, False, 10)
    assert blank.error == preview.NO_ROWS_MESSAGE


def test_lines_of_text_are_a_column(look: Look) -> None:
    shown = look("a fine day\n\nein schöner Tag\n".encode(), "notes.txt")

    assert shown.has_bare_texts
    assert [cells["text"].text for _, cells in shown.rows] == ["a fine day", "ein schöner Tag"]


def test_rows_that_cannot_be_read_are_named(look: Look) -> None:
    shown = look(b'{"text": "a"}\n{broken\n{"text": "\xff"}\n', "a.jsonl")

    assert (shown.sampled_rows, shown.invalid_rows, shown.error) == (3, 2, None)
    assert [problem.partition(":")[0] for problem in shown.problems] == ["line 2", "line 3"]


@pytest.mark.parametrize(
    ("content", "filename", "message"),
    [
        (b"PK\x03\x04abc", "a.csv", "is a ZIP or Excel file"),
        (b"\xff\xfea\0b\0", "a.csv", "is UTF-16"),
        (b"a;b\n1;2\n", "a.tsv", "seems to have semicolons"),
        (b'[{"text": "a"}]', "a.jsonl", "is one JSON array"),
        (b"no parquet", "a.parquet", "is not a Parquet file"),
        (b"PAR1 cut off", "a.parquet", "can't be read as Parquet"),
        (gzip.compress(b"text\na\n", mtime=0)[:-12], "a.csv.gz", "cut off"),
        (b"\x1f\x8b\x08\x00" + b"x" * 40, "a.csv", "can't be decompressed"),
        (b"text,text\na,b\n", "a.csv", "has two columns 'text'"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(look: Look, content: bytes, filename: str, message: str) -> None:
    assert message in str(look(content, filename).error)


def test_an_empty_file_has_no_rows(look: Look) -> None:
    for filename in ("a.csv", "a.jsonl", "a.txt", "noname"):
        shown = look(b"", filename)
        assert (shown.error, shown.sampled_rows, shown.row_count) == (None, 0, 0)


def test_the_format_can_be_chosen(look: Look) -> None:
    assert look(b'{"text": "a"}\n', "a.txt", "jsonl").columns.keys() == {"text"}
    with pytest.raises(UsageError, match="there is no file_format 'xml'"):
        look(b"", "a.txt", "xml")


def test_parquet_says_how_many_rows_it_has(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(preview, "MAX_ROWS", 20)
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["a"] * 500, "n": list(range(500))}), file)

    shown = look(file.getvalue(), "a.parquet")

    assert (shown.row_count, shown.is_count_exact, shown.unit) == (500, True, "row")
    assert [(column.name, column.kind) for column in shown.columns.values()] == [("text", "text"), ("n", "number")]


def test_openais_lines_are_recognised(look: Look) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}

    assert look(json.dumps(line).encode(), "a.jsonl").is_openai_format
    assert not look(b'{"text": "a"}', "a.jsonl").is_openai_format


def test_what_is_kept_is_bounded(look: Look) -> None:
    wide = {f"column {number}": "x" * 10_000 for number in range(1_000)} | {"y" * 1_000: 1, "": 2}

    shown = look(json.dumps(wide).encode(), "a.jsonl")

    assert len(shown.columns) == preview.MAX_COLUMNS
    assert shown.has_too_many_columns
    (_, cells) = shown.rows[0]
    lengths = [(len(cell.text), cell.characters) for cell in cells.values()]
    assert set(lengths[: preview.SHOWN_COLUMNS]) == {(preview.MAX_CELL_CHARACTERS, 10_000)}
    assert set(lengths[preview.SHOWN_COLUMNS :]) == {(preview.MAX_HIDDEN_CELL_CHARACTERS, 10_000)}


def test_a_column_without_a_name_is_hidden(look: Look) -> None:
    shown = look(json.dumps({"": 1, "text": "a"}).encode(), "a.jsonl")

    assert list(shown.columns) == ["text"]
    assert shown.has_hidden_columns
    assert not shown.has_too_many_columns


def test_a_file_that_lost_bytes_is_refused(look: Look, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "files")
    shown = look(b"text\na\n")
    assert shown.error is None
    for name in store.names():
        store.delete_name(name.name)
    with pytest.raises(MissingSource):
        store.check_whole(f"{store.store_id}/{'0' * 32}", 7)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "empty", ""),
        ("", "empty", ""),
        ("12", "text", "12"),
        (True, "boolean", "true"),
        (1.5, "number", "1.5"),
        ([1, "a"], "list", '[1,"a"]'),
        ({"a": None}, "object", '{"a":null}'),
        (datetime(2026, 1, 1, tzinfo=UTC), "other", "2026-01-01 00:00:00+00:00"),
        (float("nan"), "number", "nan"),
    ],
)
def test_values_become_texts(value: object, kind: str, text: str) -> None:
    cell = make_cell(value)

    assert (cell.kind, cell.text) == (kind, text)


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"\n" * 2**16), ("a.tsv", b"a\n" + b"\r\n" * 2**16)], ids=["csv", "tsv"]
)
def test_blank_lines_are_not_read_for_ever(
    look: Look, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    monkeypatch.setattr(preview, "MAX_SECONDS", -1.0)  # every line comes too late

    assert look(content, name).error == preview.NO_ROWS_MESSAGE


def test_rows_before_the_end_of_time_are_shown(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_SECONDS", 2.0)
    moments = iter([0.0, *[0.5] * 3])
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: next(moments, 9.0)))

    shown = look(b"text\n" + b"a fine day\n" * 100)

    assert (shown.error, shown.is_whole) == (None, False)
    assert 0 < shown.sampled_rows < 10
