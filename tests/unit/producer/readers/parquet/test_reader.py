import importlib
import io
import random
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tasks
from models.errors import SourceTooLarge, UnreadableSource
from producer.readers import limits, rows_from_records
from producer.readers.column_mapping import ColumnMapping
from producer.readers.parquet import reader, row_groups, values
from producer.readers.parquet.decompression import BrokenBlock
from producer.readers.rows import Problem, Row
from producer.readers.storable import UnreadableValue

pyarrow: Any = pytest.importorskip("pyarrow")
pq: Any = importlib.import_module("pyarrow.parquet")

SPEC = tasks.find_spec("sentiment-analysis")


def write_table(table: Any, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    file.seek(0)
    return file


def read(file: io.BytesIO, columns: ColumnMapping | None = None) -> list[Row | Problem]:
    columns = columns or ColumnMapping.for_task(SPEC)
    return list(rows_from_records(reader.read_records(file, "a.parquet", columns), columns))


def test_only_mapped_columns_are_read() -> None:
    table = pyarrow.table({"body": ["a", "b"], "big": ["x", "y"], "sku": [7, 8], "region": ["eu", None]})
    columns = ColumnMapping.for_task(SPEC, {"text": "body"}, "sku", passthrough=["region"])

    assert list(reader.read_records(write_table(table), "a.parquet", columns)) == [
        (1, {"body": "a", "sku": 7, "region": "eu"}),
        (2, {"body": "b", "sku": 8, "region": None}),
    ]
    assert read(write_table(table), columns) == [
        Row(1, "7", {"text": "a"}, {"region": "eu"}),
        Row(2, "8", {"text": "b"}, {"region": None}),
    ]


def test_rows_are_numbered_across_batches_and_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "RECORD_BATCH_ROWS", (3, 1))
    table = pyarrow.table({"text": [str(number) for number in range(1, 12)]})

    assert [(row[0], row[2]) for row in read(write_table(table, row_group_size=5))] == [
        (number, {"text": str(number)}) for number in range(1, 12)
    ]


def test_passthrough_values_become_json() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    table = pyarrow.table({"text": ["a"], "at": [noon], "price": [Decimal("1.10")], "tags": [["x", "y"]]})

    (row,) = read(write_table(table), ColumnMapping.for_task(SPEC, passthrough=["at", "price", "tags"]))

    assert row[3] == {"at": "2026-11-24T12:00:00+00:00", "price": "1.10", "tags": ["x", "y"]}


def test_bytes_can_t_be_passed_through() -> None:
    (row,) = read(
        write_table(pyarrow.table({"text": ["a"], "raw": [b"x"]})), ColumnMapping.for_task(SPEC, passthrough=["raw"])
    )

    assert row == Problem(
        1,
        "raw holds bytes, which JSON has not; keep other columns",
        "invalid_passthrough",
        raw_input=ANY,
        passthrough=ANY,
        custom_id=ANY,
    )


def test_text_that_is_not_utf_8_is_a_problem_of_its_row() -> None:
    texts = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary()).cast(pyarrow.string(), safe=False)
    table = pyarrow.table([pyarrow.Array.from_buffers(pyarrow.string(), 3, texts.buffers())], names=["text"])

    first, second, third = read(write_table(table))

    assert (first, third) == (Row(1, None, {"text": "a"}), Row(3, None, {"text": "c"}))
    assert second == Row(
        2, None, {"text": UnreadableValue("has text that is not UTF-8; write the column again as text")}
    )


@pytest.mark.parametrize(
    ("arrow_type", "value"),
    [
        (pyarrow.timestamp("us"), 253_402_300_800_000_000),  # the year 10000
        (pyarrow.timestamp("us"), -62_135_596_800_000_001),  # before the year 1
        (pyarrow.timestamp("us", "Asia/Tokyo"), 253_402_300_799_000_000),  # the last second of 9999, in Tokyo 10000
        (pyarrow.timestamp("us", "No/Where"), 0),
        (pyarrow.date32(), 2**31 - 1),
    ],
)
def test_a_time_that_python_can_t_hold_is_a_problem_of_its_row(arrow_type: Any, value: int) -> None:
    at = pyarrow.array([None, value, None], arrow_type)
    table = pyarrow.table({"text": ["a", "b", "c"], "id": [1, 2, 3], "at": at})

    first, problem, third = read(write_table(table), ColumnMapping.for_task(SPEC, passthrough=["at"]))

    assert (first, third) == (Row(1, "1", {"text": "a"}, {"at": None}), Row(3, "3", {"text": "c"}, {"at": None}))
    assert isinstance(problem, Problem)
    assert (problem.location, problem.code) == (2, "invalid_passthrough")
    assert problem.message.startswith("at has a value that Python can't hold")


def test_repeated_columns_are_rejected() -> None:
    table = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])

    with pytest.raises(UnreadableSource, match=r"a\.parquet has two columns 'text'; rename one"):
        read(write_table(table))


def test_ids_that_are_decimals_or_uuids_become_text() -> None:
    decimals = [Decimal(12345678901234567890), Decimal("1E+3")]
    ids = pyarrow.array(decimals, pyarrow.decimal128(38, 0))

    assert [row[1] for row in read(write_table(pyarrow.table({"text": ["a", "b"], "id": ids})))] == [
        "12345678901234567890",
        "1000",
    ]


def test_a_broken_page_is_not_a_disk_error() -> None:
    table = pyarrow.table({"text": [f"{number} text" for number in range(20_000)]})
    whole = write_table(table, compression="snappy", use_dictionary=False, row_group_size=5_000).getvalue()
    middle = len(whole) // 2
    broken = whole[:middle] + b"\xff" * 2_000 + whole[middle + 2_000 :]

    with pytest.raises(UnreadableSource, match=r"a\.parquet can't be read as Parquet"):
        read(io.BytesIO(broken))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty, which no Parquet file is"),
        (b"PAR1" + b"x" * 50, "can't be read as Parquet"),
        (b'{"text": "a"}', "is not a Parquet file; name its format, such as jsonl or csv"),
    ],
)
def test_another_file_format_is_rejected(data: bytes, words: str) -> None:
    with pytest.raises(UnreadableSource, match=words):
        read(io.BytesIO(data))


def test_a_missing_column_is_rejected_at_once() -> None:
    with pytest.raises(UnreadableSource, match="has no column 'text'; it has: body; say which to use"):
        read(write_table(pyarrow.table({"body": ["a"]})))


WORDS = ["good", "bad", "excellent", "terrible", "\u00e9t\u00e9", "\U0001f600"]
RANDOM = random.Random(3)
LONG = [None if number % 5 == 3 else " ".join(RANDOM.choices(WORDS, k=6_000)) for number in range(24)]


def read_texts(file: io.BytesIO) -> list[object]:
    return [row[1]["text"] for row in reader.read_records(file, "a.parquet", ColumnMapping.for_task(SPEC))]


@pytest.mark.parametrize("codec", ["snappy", "lz4", "gzip", "zstd", "brotli", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("whole_bytes", [0, 2**26])
def test_texts_of_large_pages_are_read(
    monkeypatch: pytest.MonkeyPatch, codec: str, version: str, dictionary: bool, whole_bytes: int
) -> None:
    monkeypatch.setattr(row_groups, "MAX_PAGE_BYTES", 2**17)
    monkeypatch.setattr(row_groups, "MAX_WHOLE_PAGE_BYTES", whole_bytes)
    table = pyarrow.table({"text": LONG * 2, "id": range(48)})

    rows = read(write_table(table, compression=codec, data_page_version=version, use_dictionary=dictionary))

    assert [row[1:3] for row in rows] == [(str(n), {"text": text}) for n, text in enumerate(LONG * 2)]


def test_a_large_column_without_nulls_is_read() -> None:
    schema = pyarrow.schema([pyarrow.field("text", pyarrow.string(), nullable=False)])
    table = pyarrow.table({"text": ["a" * 3_000_000, "b", "c" * 3_000_000]}, schema=schema)

    assert read_texts(write_table(table, use_dictionary=False)) == table.column("text").to_pylist()


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.string_view(), pyarrow.string()])
@pytest.mark.parametrize("size", [3, 400_000])
def test_texts_of_each_arrow_type_are_read(kind: Any, size: int) -> None:
    texts = ["\u00e9" * size, None, "b" * size] * 8

    assert read_texts(write_table(pyarrow.table({"text": pyarrow.array(texts, kind)}))) == texts


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_a_value_over_the_row_limit_does_not_affect_others(use_dictionary: bool) -> None:
    table = pyarrow.table({"text": ["a", "b" * (limits.MAX_ROW_BYTES + 1), "c"]})

    assert read_texts(write_table(table, use_dictionary=use_dictionary)) == [
        "a",
        UnreadableValue(limits.ROW_TOO_LONG_MESSAGE),
        "c",
    ]


def test_texts_partly_in_a_dictionary_are_read() -> None:
    texts = [f"{number % 7} {'x' * 2_000}" for number in range(2_000)] + [f"{n} {'y' * 2_000}" for n in range(3_000)]

    assert read_texts(write_table(pyarrow.table({"text": texts}), dictionary_pagesize_limit=2**16)) == texts


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_other_encodings_are_read(encoding: str) -> None:
    texts = [f"common {number}" for number in range(9_000)]
    file = write_table(pyarrow.table({"text": texts}), use_dictionary=False, column_encoding={"text": encoding})

    assert read_texts(file) == texts


def test_lists_and_objects_are_read_with_their_dictionaries() -> None:
    messages = [[{"role": "user", "content": f"a {number % 3}"}] * (number % 4) for number in range(500)]
    chat = tasks.find_spec("text-generation")
    columns = ColumnMapping.for_task(chat)
    file = write_table(pyarrow.table({"messages": messages}))

    assert [row[1]["messages"] for row in reader.read_records(file, "a.parquet", columns)] == messages


def test_a_list_of_dictionary_texts_over_the_row_limit_does_not_affect_others() -> None:
    lists = [["a"], ["b" * 100_000] * 1_000, ["c"]]
    columns = ColumnMapping.for_task(SPEC, passthrough=["kept"])

    first, second, third = read(write_table(pyarrow.table({"text": ["a", "b", "c"], "kept": lists})), columns)

    assert (first, third) == (
        Row(1, None, {"text": "a"}, {"kept": ["a"]}),
        Row(3, None, {"text": "c"}, {"kept": ["c"]}),
    )
    assert second == Problem(
        2, "kept is longer than 16 MiB; split it", "invalid_passthrough", raw_input=ANY, passthrough=ANY, custom_id=ANY
    )


def test_lists_in_large_pages_are_rejected() -> None:
    table = pyarrow.table({"text": ["a"], "kept": [["b" * 5 * 2**20]]})

    with pytest.raises(UnreadableSource, match=r"a\.parquet, row group 1: the column 'kept' has pages of 5 MiB"):
        read(write_table(table, use_dictionary=False), ColumnMapping.for_task(SPEC, passthrough=["kept"]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pyarrow.timestamp("ns"), "2023-11-14T22:13:20.123456789"),
        (pyarrow.timestamp("ns", "Asia/Tokyo"), "2023-11-15T07:13:20.123456789+09:00"),
    ],
)
def test_nanoseconds_are_passed_through_in_full(kind: Any, expected: str) -> None:
    at = pyarrow.array([1_700_000_000_123_456_789, 1_700_000_000_123_456_000], kind)

    first, _ = read(
        write_table(pyarrow.table({"text": ["a", "b"], "at": at})), ColumnMapping.for_task(SPEC, passthrough=["at"])
    )

    assert first[3] == {"at": expected}
    assert values._nanosecond_timestamp(at[0]) == expected  # Arrow needs pandas for such values


def test_repeated_dictionary_texts_are_counted() -> None:
    table = pyarrow.table({"text": ["a" * 10_000] * 1_000})
    records = reader.read_records(
        write_table(table), "a.parquet", ColumnMapping.for_task(SPEC), limits.Meter(limits.Limits(10, 95_000))
    )

    with pytest.raises(SourceTooLarge, match=r"a\.parquet, row 10: the source has more than 95,000 bytes"):
        list(records)


def test_a_broken_page_header_is_rejected() -> None:
    whole = bytearray(write_table(pyarrow.table({"text": ["a", "b"]}), compression="none").getvalue())
    whole[4:12] = b"\xff" * 8

    with pytest.raises(UnreadableSource, match=r"a\.parquet can't be read as Parquet: a page has no header"):
        read(io.BytesIO(bytes(whole)))


def test_a_column_name_that_is_not_utf_8_is_rejected() -> None:
    whole = write_table(pyarrow.table({"text": ["a"], "zebra": ["b"]}), compression="none").getvalue()

    with pytest.raises(UnreadableSource, match=r"a\.parquet can't be read as Parquet: a column's name is not UTF-8"):
        read(io.BytesIO(whole.replace(b"zebra", b"\x80ebra")))


@pytest.mark.parametrize("index", [8, -1, 2**31 - 1])
@pytest.mark.parametrize("dictionary", [["a", "b"], ["a"] * 8])
def test_an_index_outside_of_the_dictionary_is_rejected(index: int, dictionary: list[str]) -> None:
    indices = pyarrow.array([0, None, index, 1], pyarrow.int32())
    column = pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array(dictionary), safe=False)

    with pytest.raises(BrokenBlock, match="not in its column's dictionary"):
        list(values.iter_values(column))


def damaged_files() -> list[bytes]:
    texts, numbers = ["a", None, "b" * 300] * 20, [[1, 2], None, [3]] * 20
    table = pyarrow.table({"text": texts, "id": numbers})
    return [
        write_table(table, compression=compression, data_page_version=version, row_group_size=20).getvalue()
        for compression, version in (("none", "1.0"), ("snappy", "2.0"), ("zstd", "1.0"), ("lz4", "2.0"))
    ]


DAMAGED = damaged_files()


@given(st.data())
@settings(max_examples=200)
def test_a_damaged_file_raises_only_unreadable_source(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(DAMAGED)))
    footer_start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.sampled_from([0, footer_start]))
        whole[data.draw(st.integers(start, len(whole) - 1))] = data.draw(st.integers(0, 255))

    with suppress(UnreadableSource):
        for _ in reader.read_records(io.BytesIO(bytes(whole)), "a.parquet", ColumnMapping.for_task(SPEC)):
            pass


# pyarrow ends the process when it returns some metadata, such as a codec that the format does not have.
@pytest.mark.parametrize("value", [*range(10), 24, 63, 64, 127, 128, 255])
def test_a_damaged_footer_raises_only_unreadable_source(value: int) -> None:
    whole = write_table(pyarrow.table({"text": ["a", None]}), store_schema=False).getvalue()

    for place in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole)):
        with suppress(UnreadableSource):
            read(io.BytesIO(whole[:place] + bytes([value]) + whole[place + 1 :]))
