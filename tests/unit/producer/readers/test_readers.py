import gzip
import importlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import fsspec
import pytest

from models import tasks
from models.errors import Unreachable, UnreadableSource, UsageError
from producer import readers
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files.access import Access
from producer.readers.rows import Problem, Row, Source

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
def test_the_name_shows_the_format(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)

    (row,) = rows(path)

    assert row[1:4] == ("1", {"text": "good"}, None)


def test_the_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.data"
    path.write_text("text\ngood\n")

    assert rows(path, "csv") == [Row(2, None, {"text": "good"})]
    with pytest.raises(UnreadableSource, match=r"name its format: jsonl, csv, tsv"):
        rows(path)


def test_each_line_of_a_text_file_is_an_input(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_bytes(b'\xef\xbb\xbfgood\r\n\n  {"text": "a"} \nbad\xff\nlast')

    assert rows(path) == [
        Row(1, None, "good"),
        Row(3, None, '  {"text": "a"} '),
        Problem(4, "is not UTF-8 at byte 4 (0xff); save the file as UTF-8", raw_input={"row": "bad\\xff"}),
        Row(5, None, "last"),
    ]


def test_an_empty_cell_of_an_optional_column_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,text_pair\na,\nb,c\n,d\n")

    assert [row.raw_input for row in rows(path) if isinstance(row, Row)] == [
        {"text": "a"},
        {"text": "b", "text_pair": "c"},
        {"text": "", "text_pair": "d"},  # invalid, because the text is required
    ]


def test_standard_input_is_json_lines_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"good"\n')))
    assert rows("-") == [Row(1, None, "good")]

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\ngood\n")))
    assert rows("-", "csv") == [Row(2, None, {"text": "good"})]


def test_a_problem_with_a_column_names_the_option_that_repairs_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "good"}\n{"text": "good", "id": 1.5}\n')

    first, second = rows(path)

    assert first == Problem(
        1,
        "has no 'text'; it has: body; say which to use: --input FIELD=COLUMN",
        "missing_field",
        raw_input=ANY,
        custom_id=ANY,
    )
    message = "id must be text, an integer or a UUID to be the custom_id; use another with --id, or none with --no-id"
    assert second == Problem(2, message, "invalid_id", raw_input=ANY, custom_id=ANY)


def test_a_table_without_the_column_is_rejected_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,body\n1,good\n")

    with pytest.raises(UnreadableSource, match=r"has no column 'text'; it has: id, body"):
        rows(path)
    assert rows(path, columns=ColumnMapping.for_task(SPEC, {"text": "body"})) == [Row(2, "1", {"text": "good"})]


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.touch()

    assert rows(path) == []


def test_a_folder_leads_to_its_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "folder.jsonl"):
        path.mkdir(exist_ok=True)
        with pytest.raises(UnreadableSource) as caught:
            rows(path)
        assert str(caught.value) == f"{path} is a folder; name the files in it, such as {path}/*.jsonl"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.xlsx", "is a spreadsheet; save the sheet as CSV (UTF-8)"),
        ("a.feather", "has a format that is not read; save it as Parquet"),
        ("a.xml", "has a format that is not read; save it as JSON lines"),
        ("a.log", "does not say by its name what it is; name its format: jsonl, csv, tsv, parquet or text"),
    ],
)
def test_files_of_other_kinds_have_advice(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).touch()

    with pytest.raises(UnreadableSource) as caught:
        rows(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} {advice}"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")  # it has no writer: opening must not wait
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")

    for name in ("fifo.jsonl", "device.jsonl"):
        with pytest.raises(UnreadableSource, match="is not a regular file"):
            rows(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.jsonl", "there is no file nowhere.jsonl"),
        ("a.jsonl.gz", "there is no file a.jsonl.gz"),
        ("nowhere-*.jsonl", r"no file matches nowhere-\*.jsonl"),
        ("nothing://a.jsonl", "nothing://a.jsonl can't be opened: no installed package reads such URLs"),
        ("memory://nowhere/a.jsonl", "there is no file memory://nowhere/a.jsonl"),
        ("a\0b.jsonl", "can't be opened"),
    ],
)
def test_a_missing_file_is_named(path: str, words: str) -> None:
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


def compress(suffix: str, data: bytes) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".zst":
        compressed: bytes = pytest.importorskip("backports.zstd").compress(data)
        return compressed
    return data


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
class TestFormats:
    def expected(self, kind: str) -> list[Row]:
        return [row._replace(location=row.location + (kind == "csv")) for row in READ]

    def test_a_file_is_read_compressed_or_not(self, tmp_path: Path, kind: str, suffix: str) -> None:
        path = tmp_path / f"a.{kind}{suffix}"
        path.write_bytes(compress(suffix, content(kind)))

        assert rows(path) == self.expected(kind)

    def test_standard_input_is_read(self, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str) -> None:
        stdin = io.TextIOWrapper(io.BytesIO(compress(suffix, content(kind))))
        monkeypatch.setattr(sys, "stdin", stdin)

        assert rows("-", kind) == self.expected(kind)

    def test_a_url_is_read(self, kind: str, suffix: str) -> None:
        memory = fsspec.filesystem("memory")
        memory.pipe_file(f"/bucket/a.{kind}{suffix}", compress(suffix, content(kind)))

        assert rows(f"memory://bucket/a.{kind}{suffix}") == self.expected(kind)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_compressed_file_is_rejected(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(compress(suffix, content("jsonl"))[:-5])

    with pytest.raises(UnreadableSource, match="is compressed, and cut off; fetch or write it again"):
        rows(path)


def test_other_compression_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zip").touch()

    with pytest.raises(UnreadableSource, match=r"is compressed as \.zip, which is not read; use gzip or zstd"):
        rows(tmp_path / "a.jsonl.zip")


def test_compression_is_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(content("jsonl")))

    assert rows(path) == READ


def test_broken_compression_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"\x1f\x8bxyz" * 30)

    with pytest.raises(UnreadableSource, match="can't be decompressed"):
        rows(path)


@pytest.mark.parametrize(
    ("module", "name", "data", "extra"),
    [("backports", "a.jsonl.zst", b"\x28\xb5\x2f\xfd", "zstd"), ("pyarrow.parquet", "a.parquet", b"PAR1", "parquet")],
)
def test_a_missing_package_is_named(
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

    def test_files_of_any_format_are_read_in_the_given_order(self, folder: Path) -> None:
        paths = [str(folder / "b.jsonl"), str(folder / "c.csv"), str(folder / "a.jsonl")]

        with readers.open_source(paths, ColumnMapping.for_task(SPEC)) as source:
            read_rows = list(source.rows)

        assert [source.describe_location(row.location) for row in read_rows] == [
            f"{paths[0]}, line 1",
            f"{paths[0]}, line 3",
            f"{paths[1]}, line 2",
            f"{paths[1]}, line 3",
            f"{paths[2]}, line 1",
            f"{paths[2]}, line 2",
        ]
        assert read_rows[3][1] == "has another number of cells than the header: 2 instead of 1"

    def test_a_missing_file_is_named_before_any_is_read(self, folder: Path) -> None:
        with (
            pytest.raises(UnreadableSource, match="there is no file"),
            readers.open_source([str(folder / "a.jsonl"), "nowhere.jsonl"], ColumnMapping.for_task(SPEC)),
        ):
            raise AssertionError

    def test_a_file_whose_name_looks_like_a_pattern_is_that_file(self, tmp_path: Path) -> None:
        (tmp_path / "a[1].jsonl").write_text('"one"\n')
        (tmp_path / "a1.jsonl").write_text('"other"\n')

        assert rows(tmp_path / "a[1].jsonl") == [Row(1, None, "one")]

    def test_standard_input_can_t_be_combined_with_files(self, folder: Path) -> None:
        with (
            pytest.raises(UsageError, match="can't be combined with files"),
            readers.open_source(["-", "a.jsonl"], ColumnMapping.for_task(SPEC)),
        ):
            pass

    def test_a_pattern_in_a_url_is_expanded(self) -> None:
        memory = fsspec.filesystem("memory")
        for name in ("2", "1"):
            memory.pipe_file(f"/parts/{name}.jsonl", f'"{name}"\n'.encode())

        with readers.open_source("memory://parts/*.jsonl", ColumnMapping.for_task(SPEC), access=MEMORY) as source:
            assert self.texts(source) == ["1", "2"]


def test_a_source_that_breaks_off_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def readline(self, *_: Any) -> bytes:
            raise ConnectionResetError("gone")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Broken(b'"one"\n')))

    with pytest.raises(Unreachable, match="standard input broke off while it was read: gone"):
        rows("-")


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a"\n"b"\n')

    def is_open() -> bool:
        return str(path) in {os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()}

    with readers.open_source(str(path), ColumnMapping.for_task(SPEC)) as source:
        next(source.rows)
        assert is_open()

    assert not is_open()


def test_doubts_name_the_first_files_alone(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / f"{name}.csv").write_text("17,fine\n23,bad\n")
    columns = ColumnMapping.for_task(SPEC, {"text": "fine"})

    with readers.open_source(str(tmp_path / "*.csv"), columns) as source:
        assert len(list(source.rows)) == 5

    assert [Path(doubt.partition(":")[0]).name for doubt in source.doubts] == ["a.csv", "b.csv", "c.csv"]


class TestColumnNames:
    def read(self, path: Path, names: str, **mapping: Any) -> list[Row | Problem]:
        columns = ColumnMapping.for_task(SPEC, **mapping).with_header(names)
        with readers.open_source(str(path), columns) as source:
            rows = list(source.rows)
        self.doubts = source.doubts
        assert tuple(source.column_names) == columns.header
        return rows

    def put(self, tmp_path: Path, content: str, name: str = "a.csv") -> Path:
        path = tmp_path / name
        path.write_text(content)
        return path

    def test_the_first_line_is_a_row(self, tmp_path: Path) -> None:
        path = self.put(tmp_path, "17,good as it is,4.5\n23,bad,1.0\n")

        rows = self.read(path, "id,text,stars", passthrough=["stars"])

        assert rows == [
            Row(1, "17", {"text": "good as it is"}, {"stars": "4.5"}),
            Row(2, "23", {"text": "bad"}, {"stars": "1.0"}),
        ]
        assert self.doubts == []

    def test_several_files_have_the_same_columns(self, tmp_path: Path) -> None:
        self.put(tmp_path, "1\tgood\n", "a.tsv")
        self.put(tmp_path, "\ufeff2,bad\n")

        assert [row.custom_id for row in self.read(tmp_path / "a.*", "id,text")] == ["2", "1"]

    @pytest.mark.parametrize(
        ("content", "names", "texts"),
        [
            ("1;good\n2;bad\n", "id,text", ["good", "bad"]),
            ("good; really\nbad\n", "text", ["good; really", "bad"]),
            ('"good\nday",1\n', "text,id", ["good\nday"]),
            ("\n\n1,good\n", "id,text", ["good"]),
            ("", "id,text", []),
        ],
    )
    def test_odd_files_are_read(self, tmp_path: Path, content: str, names: str, texts: list[str]) -> None:
        rows = self.read(self.put(tmp_path, content), names)

        assert [row.raw_input for row in rows] == [{"text": text} for text in texts]

    @pytest.mark.parametrize(
        ("content", "names", "message"),
        [
            ("1,good,5\n", "id,text", "a.csv has 3 cells in line 1, and 2 column names (id, text); name each column"),
            ("good\n", "id,text", "a.csv has 1 cell in line 1, and 2 column names (id, text); name each column"),
            ("1,good\n", "id,body", "a.csv has no column 'text'; it has: id, body"),
            ("1\tgood\n", "id,text", "a.csv seems to have tabs between its cells; name its format: tsv"),
        ],
    )
    def test_names_that_do_not_fit_are_refused(self, tmp_path: Path, content: str, names: str, message: str) -> None:
        with pytest.raises(UnreadableSource) as caught:
            self.read(self.put(tmp_path, content), names)

        assert message in str(caught.value)

    def test_a_later_row_with_other_cells_is_its_problem_alone(self, tmp_path: Path) -> None:
        [_, problem] = self.read(self.put(tmp_path, "1,good\n2\n"), "id,text")

        assert isinstance(problem, Problem)
        assert problem.message == "has another number of cells than there are column names: 1 instead of 2"

    def test_a_header_after_all_is_in_doubt(self, tmp_path: Path) -> None:
        path = self.put(tmp_path, "id, text\n1,good\n")

        assert len(self.read(path, "id,text")) == 2
        assert self.doubts == [
            f"{path}: the first line has the names of the columns, and is read as a row; if it is a header, name none"
        ]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.txt"])
    def test_other_formats_take_none(self, tmp_path: Path, name: str) -> None:
        path = self.put(tmp_path, '"a"\n', name)

        with pytest.raises(UsageError, match=r"column names are for CSV and TSV, and .* is read as") as caught:
            self.read(path, "text")
        assert caught.value.param == "column_names"

    def test_repeated_names_in_a_header_lead_to_the_option(self, tmp_path: Path) -> None:
        with (
            pytest.raises(UnreadableSource, match="if line 1 is data, name the columns: --column-names NAME,NAME"),
            readers.open_source(str(self.put(tmp_path, "5,5\n4,1\n")), ColumnMapping.for_task(SPEC)) as source,
        ):
            next(source.rows)
