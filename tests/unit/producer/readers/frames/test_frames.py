"""Tables of pandas, polars and Arrow are read as Parquet files of them are."""

import datetime as dt
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from models import tasks
from models.errors import UnreadableSource, UsageError
from producer import readers
from producer.readers.column_mapping import ColumnMapping
from producer.readers.frames import arrow_frames, frame, polars_frames
from producer.readers.items import open_items
from producer.readers.limits import DEFAULT_LIMITS
from producer.readers.mapping_advice import PYTHON_ADVICE
from producer.readers.rows import Problem, Row
from producer.readers.storable import UnreadableValue

SPEC = tasks.TASKS["sentiment-analysis"]
PAIRS = tasks.TASKS["question-answering"]
ALL_COLUMNS = ColumnMapping.for_task(SPEC, passthrough="*", advice=PYTHON_ADVICE)

ZONE = dt.timezone(dt.timedelta(hours=1))
TIME = dt.datetime(2026, 11, 25, 6, 0, 0, 123456)
NANOSECONDS = 1_764_050_400_123_456_789


def rows_of(inputs: Any, columns: ColumnMapping = ALL_COLUMNS, ids: Any = None) -> list[Row | Problem]:
    return list(open_items(inputs, ids, columns, DEFAULT_LIMITS).rows)


def rows_of_parquet(path: Path) -> list[Row | Problem]:
    with readers.open_source(str(path), ALL_COLUMNS) as source:
        return list(source.rows)


def texts_of(rows: list[Row | Problem]) -> list[object]:
    return [row.raw_input["text"] if isinstance(row.raw_input, dict) else row.raw_input for row in rows]


PANDAS_FRAME = pd.DataFrame(
    {
        "text": ["first", None, "", "Zürich 🚲"],
        "id": [3, 1, 4, 15],
        "category": pd.Categorical(["a", None, "b", "a"], categories=["b", "a"]),
        "rank": pd.Categorical([1, 2, None, 1]),
        "score": [0.5, float("nan"), None, -1.0],
        "count": pd.array([1, None, 3, 4], dtype="Int64"),
        "done": pd.array([True, None, False, True], dtype="boolean"),
        "object": pd.Series(["x", None, float("nan"), pd.NA], dtype="object"),
        "python_text": pd.Series(["x", None, "", pd.NA], dtype=pd.StringDtype("python")),
        "time": pd.to_datetime([TIME, None, pd.NaT, "2026-01-01"]),
        "nanosecond": pd.to_datetime(pd.Series([NANOSECONDS, None, 0, 1000], dtype="Int64"), unit="ns"),
        "zoned": pd.to_datetime([TIME, None, TIME, TIME]).tz_localize("Europe/Berlin"),
        "date": [dt.date(2026, 11, 25), None, dt.date(1, 1, 1), dt.date(9999, 12, 31)],
        "decimal": [Decimal("1.50"), None, Decimal("-2.25"), Decimal("0.00")],
        "list": [[1, 2], None, [], [3]],
        "numbers": [[1.5, float("nan")], [], None, [2.0]],
        "struct": [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}],
        "arrow_list": pd.Series([["x"], None, [], ["y", None]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        "arrow_time": pd.Series([TIME, None, TIME, TIME], dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))),
        "empty": [None] * 4,
    }
)

POLARS_FRAME = pl.DataFrame({
    "text": ["first", None, "", "Zürich 🚲"],
    "id": [3, 1, 4, 15],
    "category": pl.Series(["a", None, "b", "a"], dtype=pl.Categorical),
    "enum": pl.Series(["b", None, "a", "a"], dtype=pl.Enum(["a", "b"])),
    "score": [0.5, None, 1e300, -1.0],
    "date": [dt.date(2026, 11, 25), None, dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "time": [TIME, None, TIME, TIME],
    "nanosecond": pl.Series([NANOSECONDS, None, 0, 1000]).cast(pl.Datetime("ns")),
    "zoned": pl.Series([TIME, None, TIME, TIME]).dt.replace_time_zone("Europe/Berlin"),
    "clock": [dt.time(6), None, dt.time(6, 0, 0, 5), dt.time(0)],
    "decimal": pl.Series([Decimal("1.50"), None, Decimal("-2.25"), Decimal("0.00")]),
    "list": [[1, 2], None, [], [3]],
    "array": pl.Series([[1, 2], None, [3, 4], [5, 6]], dtype=pl.Array(pl.Int16, 2)),
    "struct": [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}],
    "flag": [True, None, False, True],
    "empty": [None] * 4,
})  # fmt: skip


class TestPandas:
    def test_a_frame_has_the_rows_of_its_parquet_file(self, tmp_path: Path) -> None:
        PANDAS_FRAME.to_parquet(tmp_path / "a.parquet", index=False)

        rows = rows_of(PANDAS_FRAME)

        assert rows == rows_of_parquet(tmp_path / "a.parquet")
        assert [row.custom_id for row in rows] == ["3", "1", "4", "15"]
        assert texts_of(rows) == ["first", None, "", "Zürich 🚲"]

    def test_a_value_of_an_object_column_counts_by_itself(self) -> None:
        numpy = sys.modules["numpy"]
        values = [1, "x", numpy.int8(2), numpy.array([[1.0, float("nan")]]), (1, pd.NaT), {"a": numpy.bool_(True)}]
        table = pd.DataFrame({"text": ["t"] * 6, "value": pd.Series(values, dtype="object")})

        kept = [row.passthrough["value"] for row in rows_of(table)]

        assert kept == [1, "x", 2, [[1.0, None]], [1, None], {"a": True}]
        assert type(kept[2]) is int
        assert type(kept[5]["a"]) is bool

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (pd.Period("2026-11"), "value holds Period, which JSON has not"),
            (pd.Timedelta(1), "value holds Timedelta, which JSON has not"),
            (b"\xff", "value holds bytes, which JSON has not"),
            (object(), "value holds object, which JSON has not"),
        ],
    )
    def test_a_value_that_json_has_not_is_named(self, value: object, reason: str) -> None:
        [row] = rows_of(pd.DataFrame({"text": ["t"], "value": [value]}))

        assert isinstance(row, Problem)
        assert row.message.startswith(reason)

    def test_a_time_that_python_can_not_hold_fails_alone(self) -> None:
        times = pd.Series([0, 10**18], dtype=pd.ArrowDtype(pa.timestamp("s")))

        good, bad = rows_of(pd.DataFrame({"text": ["a", "b"], "time": times}))

        assert good.passthrough == {"time": "1970-01-01T00:00:00"}
        assert isinstance(bad, Problem)
        assert bad.message.startswith("time has a value that Python can't hold")

    def test_the_index_is_a_column_only_where_it_is_asked_for(self) -> None:
        index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["id", "part"])
        table = pd.DataFrame({"text": ["x", "y"], "kept": [1, 2]}, index=index)

        assert [(row.custom_id, row.passthrough) for row in rows_of(table)] == [
            (None, {"kept": 1}),
            (None, {"kept": 2}),
        ]
        columns = ColumnMapping.for_task(SPEC, id_column="id", passthrough=["part"])
        assert [(row.custom_id, row.passthrough) for row in rows_of(table, columns)] == [
            ("a", {"part": 1}),
            ("b", {"part": 2}),
        ]

    def test_columns_may_be_named_as_the_frame_names_them(self) -> None:
        table = pd.DataFrame({0: [7], 1: ["a"], 2: ["kept"]}, index=pd.Index([3], name=5))
        columns = ColumnMapping.for_task(
            SPEC,
            {"text": 1},
            0,
            passthrough=[2, 5],
            advice=PYTHON_ADVICE,  # type: ignore[dict-item, arg-type, list-item]
        )

        assert rows_of(table, columns) == [Row(1, "7", {"text": "a"}, {"2": "kept", "5": 3})]

    def test_names_that_are_no_text_stand_there_as_text(self) -> None:
        table = pd.DataFrame({0: ["a"], ("x", 1): ["b"], "id": [7]})

        [row] = rows_of(table, ColumnMapping.for_task(SPEC, {"text": "0"}, passthrough="*"))

        assert row == Row(1, "7", {"text": "a"}, {"('x', 1)": "b"})

    @pytest.mark.parametrize("names", [["text", "text"], [0, "0"]])
    def test_two_columns_of_one_name_are_refused(self, names: list[Any]) -> None:
        with pytest.raises(UnreadableSource, match=f"the DataFrame has two columns '{names[0]}'; rename one"):
            rows_of(pd.DataFrame([["a", "b"]], columns=names))


class TestPolars:
    def test_a_frame_has_the_rows_of_its_parquet_file(self, tmp_path: Path) -> None:
        POLARS_FRAME.write_parquet(tmp_path / "a.parquet")

        assert rows_of(POLARS_FRAME) == rows_of_parquet(tmp_path / "a.parquet")

    def test_a_lazy_frame_has_the_same_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = rows_of(POLARS_FRAME)

        assert rows_of(POLARS_FRAME.lazy()) == expected
        monkeypatch.delattr(pl.LazyFrame, "collect_batches", raising=False)  # older versions have none
        assert rows_of(POLARS_FRAME.lazy()) == expected

    def test_a_lazy_frame_that_fails_is_one_sentence(self) -> None:
        lazy = pl.LazyFrame({"text": ["secret"]})

        with pytest.raises(UnreadableSource, match=r"^the LazyFrame can't be read \(ColumnNotFoundError\)$"):
            rows_of(lazy.filter(pl.col("other") == "secret"))
        with pytest.raises(
            UnreadableSource, match=r"^the LazyFrame can't be read any further \(InvalidOperationError\)$"
        ):
            rows_of(lazy.with_columns(pl.col("text").cast(pl.Int8)))

    def test_a_time_that_python_can_not_hold_fails_alone(self) -> None:
        table = pl.DataFrame({"text": ["a", "b"], "day": pl.Series([0, 4_000_000]).cast(pl.Date)})

        good, bad = rows_of(table)

        assert good.passthrough == {"day": "1970-01-01"}
        assert isinstance(bad, Problem)
        assert bad.message.startswith("day has a value that Python can't hold")


class TestArrow:
    @pytest.mark.parametrize(
        "texts",
        [
            pa.array(["a", None, "ü"] * 2, pa.large_string()),
            pa.array(["a", None, "ü"] * 2, pa.string_view()),
            pa.array(["a", None, "ü"] * 2).dictionary_encode(),
            pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4, 5, 6], ["a", None, "ü", "a", None, "ü"]),
        ],
        ids=lambda array: str(array.type).partition("<")[0],
    )
    def test_every_type_of_text_is_read(self, texts: pa.Array) -> None:
        table = pa.table({"text": pa.chunked_array([texts.slice(0, 2), texts.slice(2)])})

        assert texts_of(rows_of(table)) == ["a", None, "ü"] * 2

    def test_a_table_has_the_rows_of_its_parquet_file(self, tmp_path: Path) -> None:
        table = pa.Table.from_pandas(PANDAS_FRAME, preserve_index=False)
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        expected = rows_of_parquet(tmp_path / "a.parquet")

        assert rows_of(table) == expected
        assert rows_of(table.to_reader(max_chunksize=3)) == expected
        assert rows_of(table.combine_chunks().to_batches()[0]) == expected

    def test_an_object_with_nothing_but_the_interface_is_read(self) -> None:
        class Stream:
            def __init__(self, source: Any) -> None:
                self.__arrow_c_stream__ = source.__arrow_c_stream__

        class Array:
            def __init__(self, source: Any) -> None:
                self.__arrow_c_array__ = source.__arrow_c_array__

        batch = pa.record_batch({"id": [1], "text": ["a"]})

        for inputs in (Stream(pa.table(batch)), Array(batch)):
            assert rows_of(inputs, ColumnMapping.for_task(SPEC)) == [Row(1, "1", {"text": "a"})]
        for inputs in (Stream(pa.chunked_array([["a"]])), Array(pa.array(["a"]))):
            assert texts_of(rows_of(inputs)) == ["a"]

    def test_a_reader_that_breaks_off_is_one_sentence(self) -> None:
        def batches() -> Any:
            yield pa.record_batch({"text": ["a"]})
            raise ValueError("secret")

        reader = pa.RecordBatchReader.from_batches(pa.schema([("text", pa.string())]), batches())

        with pytest.raises(UnreadableSource, match=r"^the Arrow table can't be read any further \(\w+\)$"):
            rows_of(reader)

    def test_without_pyarrow_the_error_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)

        with pytest.raises(UsageError, match=r"needs pyarrow; in the checkout, run: pip install"):
            rows_of(pa.table({"text": ["a"]}))
        assert texts_of(rows_of(POLARS_FRAME)) == texts_of(rows_of(PANDAS_FRAME))  # these need none


KINDS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "lazy": pl.LazyFrame,
    "arrow": pa.table,
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
class TestEveryKind:
    def test_the_only_column_needs_no_mapping(self, make: Callable[[dict[str, list[Any]]], Any]) -> None:
        assert texts_of(rows_of(make({"body": ["a", "b"]}))) == ["a", "b"]

    def test_the_only_column_is_not_taken_for_another_that_is_named(
        self, make: Callable[[dict[str, list[Any]]], Any]
    ) -> None:
        for columns in (
            ColumnMapping.for_task(SPEC, {"text": "other"}),
            ColumnMapping.for_task(SPEC, id_column="body"),
            ColumnMapping.for_task(SPEC, passthrough=["body"]),
            ColumnMapping.for_task(PAIRS),
        ):
            with pytest.raises(UnreadableSource, match="has no column"):
                rows_of(make({"body": ["a"]}), columns)

    def test_missing_columns_are_named_with_pythons_options(self, make: Callable[[dict[str, list[Any]]], Any]) -> None:
        table = make({"id": [1], "body": ["a"]})

        with pytest.raises(UnreadableSource) as missing:
            rows_of(table)
        assert str(missing.value).endswith(
            " has no column 'text'; it has: id, body; say which to use: input_columns={'text': COLUMN}"
        )
        columns = ColumnMapping.for_task(SPEC, {"text": "body"}, "sku", passthrough=["region"], advice=PYTHON_ADVICE)
        with pytest.raises(UnreadableSource, match=r"'sku'; it has: id, body; say which to use: id_column=COLUMN"):
            rows_of(table, columns)

    def test_ids_may_be_a_column(self, make: Callable[[dict[str, list[Any]]], Any]) -> None:
        columns = ColumnMapping.for_task(SPEC, use_ids=False)

        assert [row.custom_id for row in rows_of(["a", "b"], columns, make({"key": [7, 8]}))] == ["7", "8"]
        assert [row.custom_id for row in rows_of(["a", "b"], columns, make({"key": ["x", None]}))] == ["x", None]
        with pytest.raises(UsageError, match="ids is a table of 2 columns; give one of them"):
            rows_of(["a"], columns, make({"a": [1], "b": [2]}))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", None]),
        pd.Index(["a", None]),
        pd.Series(["a", None]).to_numpy(),
        pl.Series(["a", None]),
        pa.array(["a", None]),
        pa.chunked_array([["a"], [None]]),
    ],
    ids=lambda column: f"{type(column).__module__.partition('.')[0]}.{type(column).__name__}",
)
def test_a_column_of_texts_is_read_as_the_first_field(column: Any) -> None:
    assert rows_of(column, ColumnMapping.for_task(SPEC)) == [Row(1, None, "a"), Row(2, None, {"text": None})]


def test_ids_may_be_an_array_or_an_index() -> None:
    columns = ColumnMapping.for_task(SPEC, use_ids=False)

    for ids in (pd.Series([7, 8]).to_numpy(), pd.Index([7, 8]), pl.Series([7, 8]), pa.array([7, 8])):
        assert [row.custom_id for row in rows_of(["a", "b"], columns, ids)] == ["7", "8"]
    with pytest.raises(UsageError, match="an array of 2 dimensions is no list of inputs"):
        rows_of(pd.DataFrame({"a": ["x"]}).to_numpy())


def test_a_column_of_objects_is_read_as_objects() -> None:
    column = pl.Series([{"id": 1, "text": "a"}])

    assert rows_of(column, ColumnMapping.for_task(SPEC)) == [Row(1, "1", {"text": "a"})]


def test_a_table_of_another_kind_is_refused() -> None:
    class DataFrame:
        columns = dtypes = ("text",)

        def __iter__(self) -> Any:
            return iter(self.columns)

    with pytest.raises(
        UsageError, match=r"\.DataFrame is not a table that can be read; make a pandas, polars or Arrow"
    ):
        rows_of(DataFrame())


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_large_rows_are_taken_out_a_few_at_a_time(
    make: Callable[[dict[str, list[Any]]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "PORTION_BYTES", 4000)
    ranges: list[tuple[int, int]] = []
    original = frame.portion_ranges

    def record(row_count: int, size_bytes: frame.SizeBytes) -> Any:
        for portion in original(row_count, size_bytes):
            ranges.append(portion)
            yield portion

    for module in ("pandas_frames", "polars_frames", "arrow_frames"):
        monkeypatch.setattr(f"producer.readers.frames.{module}.portion_ranges", record)
    texts = [f"{number}" * 500 for number in range(10)] * 3

    assert texts_of(rows_of(make({"text": texts}))) == texts
    assert max(rows for _, rows in ranges) < 8


def test_the_texts_of_categories_and_views_count() -> None:
    categories = pl.Series(["x" * 1000, None, "y"] * 100, dtype=pl.Categorical)
    views = pa.array(["x" * 1000, None, "y"] * 100, pa.string_view())

    assert polars_frames._text_bytes(categories) == 300_000
    assert arrow_frames._value_bytes(views.slice(30, 30)) == 10 * 1001


def test_unreadable_values_are_no_texts() -> None:
    [row] = rows_of(pl.Series([4_000_000]).cast(pl.Date), ColumnMapping.for_task(SPEC))

    assert isinstance(row.raw_input, UnreadableValue)


def test_a_package_that_another_thread_is_importing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars", "numpy", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    assert texts_of(rows_of(["a", {"text": "b"}])) == ["a", "b"]
