import importlib
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from models import tasks
from models.errors import UnreadableSource
from producer.readers import parquet, row_groups, rows_of
from producer.readers.rows import Columns, Problem, Row
from producer.readers.storable import Unreadable

pyarrow: Any = pytest.importorskip("pyarrow")
pq: Any = importlib.import_module("pyarrow.parquet")

SPEC = tasks.find("sentiment-analysis")


def written(table: Any, **how: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, **how)
    file.seek(0)
    return file


def read(file: io.BytesIO, columns: Columns | None = None) -> list[Row | Problem]:
    columns = columns or Columns.of(SPEC)
    return list(rows_of(parquet.records(file, "a.parquet", columns), columns))


def test_only_the_wanted_columns_are_read() -> None:
    table = pyarrow.table({"body": ["a", "b"], "big": ["x", "y"], "sku": [7, 8], "region": ["eu", None]})
    columns = Columns.of(SPEC, {"text": "body"}, "sku", meta=["region"])

    assert list(parquet.records(written(table), "a.parquet", columns)) == [
        (1, {"body": "a", "sku": 7, "region": "eu"}), (2, {"body": "b", "sku": 8, "region": None}),
    ]  # fmt: skip
    assert read(written(table), columns) == [
        Row(1, "7", {"text": "a"}, {"region": "eu"}), Row(2, "8", {"text": "b"}, {"region": None}),
    ]  # fmt: skip


def test_rows_are_counted_on_across_batches_and_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "BATCH_ROWS", (3, 1))
    table = pyarrow.table({"text": [str(number) for number in range(1, 12)]})

    assert [(row[0], row[2]) for row in read(written(table, row_group_size=5))] == [
        (number, {"text": str(number)}) for number in range(1, 12)
    ]


def test_what_is_kept_becomes_json() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    table = pyarrow.table({"text": ["a"], "at": [noon], "price": [Decimal("1.10")], "tags": [["x", "y"]]})

    (row,) = read(written(table), Columns.of(SPEC, meta=["at", "price", "tags"]))

    assert row[3] == {"at": "2026-11-24T12:00:00+00:00", "price": "1.10", "tags": ["x", "y"]}


def test_what_json_has_not_is_a_problem() -> None:
    (row,) = read(written(pyarrow.table({"text": ["a"], "raw": [b"x"]})), Columns.of(SPEC, meta=["raw"]))

    assert row == Problem(1, "raw holds bytes, which JSON has not; take another column", "invalid_meta")


def test_text_that_is_not_utf_8_is_the_problem_of_its_row() -> None:
    texts = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary()).cast(pyarrow.string(), safe=False)
    table = pyarrow.table([pyarrow.Array.from_buffers(pyarrow.string(), 3, texts.buffers())], names=["text"])

    first, second, third = read(written(table))

    assert (first, third) == (Row(1, None, {"text": "a"}), Row(3, None, {"text": "c"}))
    assert second == Row(2, None, {"text": Unreadable("has text that is not UTF-8; write the column again as text")})


@pytest.mark.parametrize(
    ("kind", "far"),
    [
        (pyarrow.timestamp("us"), 253_402_300_800_000_000),  # the year 10000
        (pyarrow.timestamp("us"), -62_135_596_800_000_001),  # before the year 1
        (pyarrow.timestamp("us", "Asia/Tokyo"), 253_402_300_799_000_000),  # the last second of 9999, in Tokyo 10000
        (pyarrow.timestamp("us", "No/Where"), 0),
        (pyarrow.date32(), 2**31 - 1),
    ],
)
def test_a_moment_that_python_has_not_is_the_problem_of_its_row(kind: Any, far: int) -> None:
    at = pyarrow.array([None, far, None], kind)
    table = pyarrow.table({"text": ["a", "b", "c"], "id": [1, 2, 3], "at": at})

    first, problem, third = read(written(table), Columns.of(SPEC, meta=["at"]))

    assert (first, third) == (Row(1, "1", {"text": "a"}, {"at": None}), Row(3, "3", {"text": "c"}, {"at": None}))
    assert isinstance(problem, Problem)
    assert (problem.where, problem.code) == (2, "invalid_meta")
    assert problem.sentence.startswith("at has a value that Python can't hold")


def test_two_columns_of_one_name_are_refused() -> None:
    table = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])

    with pytest.raises(UnreadableSource, match=r"a\.parquet has two columns 'text'; rename one"):
        read(written(table))


def test_ids_that_are_decimals_or_uuids_become_text() -> None:
    long = [Decimal(12345678901234567890), Decimal("1E+3")]
    ids = pyarrow.array(long, pyarrow.decimal128(38, 0))

    assert [row[1] for row in read(written(pyarrow.table({"text": ["a", "b"], "id": ids})))] == [
        "12345678901234567890", "1000",
    ]  # fmt: skip


def test_a_page_that_can_t_be_unpacked_is_no_trouble_of_a_disk() -> None:
    table = pyarrow.table({"text": [f"{number} text" for number in range(20_000)]})
    whole = written(table, compression="snappy", use_dictionary=False, row_group_size=5_000).getvalue()
    middle = len(whole) // 2
    broken = whole[:middle] + b"\xff" * 2_000 + whole[middle + 2_000 :]

    with pytest.raises(UnreadableSource, match=r"a\.parquet can't be read as Parquet"):
        read(io.BytesIO(broken))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty, which no Parquet file is"),
        (b"PAR1" + b"x" * 50, "can't be read as Parquet"),
        (b'{"text": "a"}', "is not a Parquet file; say what it is: --format jsonl or csv"),
    ],
)
def test_what_is_none_is_said(data: bytes, words: str) -> None:
    with pytest.raises(UnreadableSource, match=words):
        read(io.BytesIO(data))


def test_a_missing_column_is_refused_at_once() -> None:
    with pytest.raises(UnreadableSource, match="has no column 'text'; it has: body; say which to take"):
        read(written(pyarrow.table({"body": ["a"]})))
