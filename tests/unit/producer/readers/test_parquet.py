import importlib
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from models import tasks
from models.errors import UnreadableSource
from producer.readers import parquet, rows_of
from producer.readers.rows import Columns, Problem, Row

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
    monkeypatch.setattr(parquet, "BATCH_ROWS", 3)
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
    assert second == Problem(2, "has text that is not UTF-8; write the column again as text")


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
