import gzip
import importlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from models import tasks
from models.errors import Unreachable, UnreadableSource, UsageError
from producer import readers
from producer.readers.access import Access
from producer.readers.rows import ColumnMapping, Problem, Row, Source

SPEC = tasks.find_spec("sentiment-analysis")
MEMORY = Access(schemes=frozenset({"memory", "s3", "nothing"}))


def rows(path: Path | str, kind: str | None = None, columns: ColumnMapping | None = None) -> list[Row | Problem]:
    with readers.open_source(str(path), columns or ColumnMapping.for_task(SPEC), kind, MEMORY) as source:
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

    assert [row.raw_input for row in rows(path) if isinstance(row, Row)] == [
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
    sentence = "id must be text, an integer or a UUID to be the custom_id; take another with --id, or none with --no-id"
    assert second == Problem(2, sentence, "invalid_id")


def test_a_table_without_the_column_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,body\n1,good\n")

    with pytest.raises(UnreadableSource, match=r"has no column 'text'; it has: id, body"):
        rows(path)
    assert rows(path, columns=ColumnMapping.for_task(SPEC, {"text": "body"})) == [Row(2, "1", {"text": "good"})]


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
        ("a.jsonl.gz", "there is no file a.jsonl.gz"),
        ("nowhere-*.jsonl", r"no file matches nowhere-\*.jsonl"),
        ("nothing://a.jsonl", "nothing://a.jsonl can't be opened: nothing here reads such URLs"),
        ("memory://nowhere/a.jsonl", "there is no file memory://nowhere/a.jsonl"),
        ("a\0b.jsonl", "can't be opened"),
    ],
)
def test_what_is_no_file_is_said(path: str, words: str) -> None:
    with pytest.raises(UnreadableSource, match=words):
        rows(path)


ROWS = [{"id": number, "text": f"text {number}", "stars": number % 5} for number in range(1, 6)]
READ = [Row(number, str(number), {"text": f"text {number}"}) for number in range(1, 6)]


def content(kind: str) -> bytes:
    """The same rows as the bytes of a file."""
    if kind == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    if kind == "csv":
        return b"id,text,stars\n" + b"".join(b"%(id)d,%(text)s,%(stars)d\n" % _bytes(row) for row in ROWS)
    pyarrow = pytest.importorskip("pyarrow")
    file = io.BytesIO()
    importlib.import_module("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(ROWS), file, row_group_size=2)
    return file.getvalue()


def _bytes(row: dict[str, Any]) -> dict[bytes, Any]:
    return {key.encode(): value.encode() if isinstance(value, str) else value for key, value in row.items()}


def packed(packing: str, data: bytes) -> bytes:
    if packing == ".gz":
        return gzip.compress(data)
    if packing == ".zst":
        compressed: bytes = pytest.importorskip("backports.zstd").compress(data)
        return compressed
    return data


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
class TestKinds:
    def expected(self, kind: str) -> list[Row]:
        return [row._replace(location=row.location + (kind == "csv")) for row in READ]

    def test_every_kind_is_read_packed_or_not(self, tmp_path: Path, kind: str, packing: str) -> None:
        path = tmp_path / f"a.{kind}{packing}"
        path.write_bytes(packed(packing, content(kind)))

        assert rows(path) == self.expected(kind)

    def test_from_standard_input(self, monkeypatch: pytest.MonkeyPatch, kind: str, packing: str) -> None:
        stdin = io.TextIOWrapper(io.BytesIO(packed(packing, content(kind))))
        monkeypatch.setattr(sys, "stdin", stdin)

        assert rows("-", kind) == self.expected(kind)

    def test_from_where_fsspec_reaches(self, kind: str, packing: str) -> None:
        memory = fsspec.filesystem("memory")
        memory.pipe_file(f"/bucket/a.{kind}{packing}", packed(packing, content(kind)))

        assert rows(f"memory://bucket/a.{kind}{packing}") == self.expected(kind)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_file_that_was_cut_off_is_said(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"a.jsonl{packing}"
    path.write_bytes(packed(packing, content("jsonl"))[:-5])

    with pytest.raises(UnreadableSource, match="ends before its packing does; fetch or write it again"):
        rows(path)


def test_another_packing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zip").touch()

    with pytest.raises(UnreadableSource, match=r"is packed as \.zip, which is not read; pack it with gzip or zstd"):
        rows(tmp_path / "a.jsonl.zip")


def test_what_is_packed_is_told_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(content("jsonl")))

    assert rows(path) == READ


def test_broken_packing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"\x1f\x8bxyz" * 30)

    with pytest.raises(UnreadableSource, match="can't be unpacked"):
        rows(path)


@pytest.mark.parametrize(
    ("module", "name", "data", "extra"),
    [("backports", "a.jsonl.zst", b"\x28\xb5\x2f\xfd", "zstd"), ("pyarrow.parquet", "a.parquet", b"PAR1", "parquet")],
)
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, data: bytes, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "compression", None)
    (tmp_path / name).write_bytes(data)

    with pytest.raises(UnreadableSource, match=rf"needs .*; in the checkout, run: pip install .*\.\[{extra}\]"):
        rows(tmp_path / name)


def test_a_url_without_fsspec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    with pytest.raises(UnreadableSource, match=r"for which fsspec is needed; .*\.\[remote\]"):
        rows("s3://bucket/a.jsonl")


class TestSeveralFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "b.jsonl").write_text('"three"\n\n"four"\n')
        (tmp_path / "a.jsonl").write_text('"one"\n"two"\n')
        (tmp_path / "c.csv").write_text("text\nfive\n,\n")
        return tmp_path

    def texts(self, source: Source) -> list[Any]:
        return [row.raw_input for row in source.rows if isinstance(row, Row)]

    def test_a_pattern_is_read_in_the_order_of_names(self, folder: Path) -> None:
        with readers.open_source(str(folder / "*.jsonl"), ColumnMapping.for_task(SPEC)) as source:
            assert self.texts(source) == ["one", "two", "three", "four"]
            assert source.name == f"the set of 2 files from {folder / 'a.jsonl'} to {folder / 'b.jsonl'}"

    def test_files_are_read_in_the_order_given_whatever_they_are(self, folder: Path) -> None:
        paths = [str(folder / "b.jsonl"), str(folder / "c.csv"), str(folder / "a.jsonl")]

        with readers.open_source(paths, ColumnMapping.for_task(SPEC)) as source:
            found = list(source.rows)

        assert [source.describe_location(row.location) for row in found] == [
            f"{paths[0]}, line 1",
            f"{paths[0]}, line 3",
            f"{paths[1]}, line 2",
            f"{paths[1]}, line 3",
            f"{paths[2]}, line 1",
            f"{paths[2]}, line 2",
        ]
        assert found[3][1] == "has not as many cells as the header: 2 instead of 1"

    def test_of_several_a_missing_one_is_said_before_any_is_read(self, folder: Path) -> None:
        with (
            pytest.raises(UnreadableSource, match="there is no file"),
            readers.open_source([str(folder / "a.jsonl"), "nowhere.jsonl"], ColumnMapping.for_task(SPEC)),
        ):
            raise AssertionError

    def test_a_file_whose_name_looks_like_a_pattern_is_that_file(self, tmp_path: Path) -> None:
        (tmp_path / "a[1].jsonl").write_text('"one"\n')
        (tmp_path / "a1.jsonl").write_text('"other"\n')

        assert rows(tmp_path / "a[1].jsonl") == [Row(1, None, "one")]

    def test_standard_input_stands_alone(self, folder: Path) -> None:
        with (
            pytest.raises(UsageError, match="stands alone"),
            readers.open_source(["-", "a.jsonl"], ColumnMapping.for_task(SPEC)),
        ):
            pass

    def test_patterns_where_fsspec_reaches(self) -> None:
        memory = fsspec.filesystem("memory")
        for name in ("2", "1"):
            memory.pipe_file(f"/parts/{name}.jsonl", f'"{name}"\n'.encode())

        with readers.open_source("memory://parts/*.jsonl", ColumnMapping.for_task(SPEC), access=MEMORY) as source:
            assert self.texts(source) == ["1", "2"]


def test_a_source_that_breaks_off_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def readline(self, *_: Any) -> bytes:
            raise ConnectionResetError("gone")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Broken(b'"one"\n')))

    with pytest.raises(Unreachable, match="standard input broke off while it was read: gone"):
        rows("-")


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a"\n"b"\n')
    before = len(list(Path("/proc/self/fd").iterdir()))

    with readers.open_source(str(path), ColumnMapping.for_task(SPEC)) as source:
        next(source.rows)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
