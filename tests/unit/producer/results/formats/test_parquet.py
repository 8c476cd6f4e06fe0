import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import UsageError
from producer.results import files, target_file
from producer.results.formats import parquet
from producer.results.result_row import ResultRow
from producer.results.tabular import TabularLayout
from tests.factories.result_rows import FAILED_FIELDS, FINISHED_AT, result_row, vector_row

LAYOUT = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0}, passthrough=["region"])
VECTOR_LAYOUT = TabularLayout.for_vectors(["text"], 3)


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else object())

    with pytest.raises(UsageError, match=r"pip install .*\.\[parquet\]"):
        target_file.check_target(tmp_path / "out.parquet")


class TestFile:
    @pytest.fixture(autouse=True)
    def _pyarrow(self) -> None:
        pytest.importorskip("pyarrow")

    @pytest.mark.parametrize("group", [1, 2, 50_000])
    def test_a_file_reads_back_with_types(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
        from pyarrow.parquet import read_table

        monkeypatch.setattr(parquet, "GROUP_ROWS", group)
        path = tmp_path / "out.parquet"
        rows = [
            result_row(0, passthrough={"region": "EU"}, custom_id="=a"),
            result_row(1, **FAILED_FIELDS),
            result_row(2),
        ]

        assert files.write_parquet(path, rows, LAYOUT) == 3

        table = read_table(path)
        types = {field.name: str(field.type) for field in table.schema}
        assert table.column_names == LAYOUT.column_names
        assert (types["score"], types["position"], types["truncated"]) == ("double", "int64", "bool")
        assert types["finished_at"] == "timestamp[ms, tz=UTC]"
        rows_read = table.to_pylist()
        assert [row["score"] for row in rows_read] == [0.5, None, 0.5]
        assert tuple(rows_read[0][name] for name in ("custom_id", "region", "finished_at")) == ("=a", "EU", FINISHED_AT)

    @pytest.mark.parametrize("group", [1, 2, 50_000])
    def test_vectors_are_lists_of_one_length(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
        import numpy
        import pyarrow
        from pyarrow.parquet import read_table

        monkeypatch.setattr(parquet, "GROUP_ROWS", group)
        numbers = [[0.5, -2.0, 3.25], [1e-30, 0.1, 7.0]]
        rows = [vector_row(0, numbers[0]), result_row(1, **FAILED_FIELDS), vector_row(2, numbers[1])]

        assert files.write_parquet(tmp_path / "out.parquet", rows, VECTOR_LAYOUT) == 3

        column = read_table(tmp_path / "out.parquet").column("embedding").combine_chunks()
        assert column.type == pyarrow.list_(pyarrow.field("element", pyarrow.float32()), 3)
        assert [value and numpy.float32(value).tolist() for value in column.to_pylist()] == [
            numpy.float32(numbers[0]).tolist(),
            None,
            numpy.float32(numbers[1]).tolist(),
        ]

    def test_groups_of_vectors_end_by_their_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pyarrow.parquet import ParquetFile

        monkeypatch.setattr(parquet, "GROUP_BYTES", 2**20)
        numbers = [0.5] * 1024
        rows = (vector_row(position, numbers) for position in range(3_000))

        files.write_parquet(tmp_path / "out.parquet", rows, TabularLayout.for_vectors(["text"], 1024))

        with ParquetFile(tmp_path / "out.parquet") as file:
            groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        assert sum(groups) == 3_000
        assert max(groups) <= 1_024

    def test_other_tools_read_vectors(self, tmp_path: Path) -> None:
        pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
        path = tmp_path / "out.parquet"
        rows = [vector_row(0, [0.5, -2.0, 3.25]), result_row(1, **FAILED_FIELDS)]
        files.write_parquet(path, rows, VECTOR_LAYOUT)

        frame, polars_frame = pandas.read_parquet(path), polars.read_parquet(path)

        assert frame.embedding[0].tolist() == [0.5, -2.0, 3.25]
        assert frame.embedding[1] is None
        assert polars_frame.schema["embedding"] == polars.Array(polars.Float32, 3)
        assert polars_frame["embedding"].to_list() == [[0.5, -2.0, 3.25], None]

    def test_vectors_of_two_lengths_are_an_error(self, tmp_path: Path) -> None:
        rows = [vector_row(0, [0.5, -2.0, 3.25]), vector_row(1, [0.5, -2.0])]

        with pytest.raises(UsageError, match="position 1 has 2 numbers, the first has 3; write"):
            files.write_parquet(tmp_path / "out.parquet", rows, VECTOR_LAYOUT)

        with pytest.raises(UsageError, match="position 0 is no vector, the first has 3"):
            files.write_parquet(tmp_path / "out.parquet", [result_row()], VECTOR_LAYOUT)

    def test_a_file_without_rows_has_the_columns(self, tmp_path: Path) -> None:
        from pyarrow.parquet import read_table

        path = tmp_path / "out.parquet"

        assert files.write_parquet(path, [], LAYOUT) == 0

        assert read_table(path).column_names == LAYOUT.column_names

    def test_a_failed_export_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        path.write_text("before")

        def rows() -> Iterator[ResultRow]:
            yield result_row()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            files.write_parquet(path, rows(), LAYOUT)

        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]
