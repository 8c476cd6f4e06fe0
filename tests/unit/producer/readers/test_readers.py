import io
import os
import sys
from pathlib import Path

import pytest

from models import tasks
from models.errors import UnreadableSource
from producer import readers
from producer.readers.rows import Columns, Problem, Row

SPEC = tasks.find("sentiment-analysis")


def rows(path: Path | str, kind: str | None = None, columns: Columns | None = None) -> list[Row | Problem]:
    with readers.opened(str(path), columns or Columns.of(SPEC), kind) as source:
        return list(source.rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"id": 1, "text": "good"}\n'),
        ("a.NDJSON", '{"id": 1, "text": "good"}\n'),
        ("a.csv", "id,text\n1,good\n"),
        ("a.tsv", "id\ttext\n1\tgood\n"),
    ],
)
def test_the_format_goes_by_the_name(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)

    (row,) = rows(path)

    assert row[1:] == ("1", {"text": "good"}, None)


def test_the_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text("text\ngood\n")

    assert rows(path, "csv") == [Row(2, None, {"text": "good"})]
    with pytest.raises(UnreadableSource, match=r"say --format jsonl or csv or tsv"):
        rows(path)


def test_an_empty_cell_of_an_optional_column_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,text_pair\na,\nb,c\n,d\n")

    assert [row.raw for row in rows(path) if isinstance(row, Row)] == [
        {"text": "a"},
        {"text": "b", "text_pair": "c"},
        {"text": "", "text_pair": "d"},  # the task refuses it: its text is required
    ]


def test_standard_input_is_json_lines_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"good"\n')))
    assert rows("-") == [Row(1, None, "good")]

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\ngood\n")))
    assert rows("-", "csv") == [Row(2, None, {"text": "good"})]


def test_rows_whose_columns_are_wrong_are_problems_that_say_which_option_mends_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "good"}\n{"text": "good", "id": 1.5}\n')

    first, second = rows(path)

    assert first == Problem(1, "has no 'text'; it has: body; say which to take: --input FIELD=COLUMN", "missing_field")
    sentence = "id must be text or an integer to be the custom_id; take another with --id, or none with --no-id"
    assert second == Problem(2, sentence, "invalid_id")


def test_a_table_without_the_column_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,body\n1,good\n")

    with pytest.raises(UnreadableSource, match=r"has no column 'text'; it has: id, body"):
        rows(path)
    assert rows(path, columns=Columns.of(SPEC, {"text": "body"})) == [Row(2, "1", {"text": "good"})]


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.touch()

    assert rows(path) == []


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")  # nobody ever writes to it: opening must not wait
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")

    for name in ("fifo.jsonl", "folder.jsonl", "device.jsonl"):
        with pytest.raises(UnreadableSource, match="is not a regular file"):
            rows(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.jsonl", "there is no file nowhere.jsonl"),
        ("https://example.org/a.jsonl", "is a URL"),
        ("a.jsonl.gz", "is compressed; unpack it: gunzip"),
        ("a\0b.jsonl", "can't be opened"),
    ],
)
def test_what_is_no_file_is_said(path: str, words: str) -> None:
    with pytest.raises(UnreadableSource, match=words):
        rows(path)


def test_compressed_content_is_recognised_under_any_name(tmp_path: Path) -> None:
    import gzip

    for name in ("a.jsonl", "a.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b'"good"\n' * 1000))
        with pytest.raises(UnreadableSource, match="is compressed"):
            rows(path)


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a"\n"b"\n')
    before = len(list(Path("/proc/self/fd").iterdir()))

    with readers.opened(str(path), Columns.of(SPEC)) as source:
        next(source.rows)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
