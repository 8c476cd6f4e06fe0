"""Results in a Python program's own tables have the columns and types of a Parquet file."""

import importlib.util
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest

from batchmill import BatchHandle, Client, UsageError
from models import vectors
from models.db import Database
from models.states import BatchStatus
from producer.results import pages
from producer.results.formats import arrow, matrix
from tests import fake_worker
from tests.differences_over_http import over_sql_only
from tests.factories.batch_rows import execute, insert_batch

GOOD = {"label": "POSITIVE", "score": 0.5}
OTHER_FIELDS = "the output at position 1 has other fields than the first|broke the export off twice"
FIRST, SECOND = [0.5, -2.0, 1e-30], [7.0, 0.1, 3.25]


MakeBatch = Callable[..., BatchHandle]


@pytest.fixture
def make_batch(client: Client, database: Database) -> MakeBatch:
    """Return a function that makes a batch with these outputs by position."""

    def make(outputs: list[tuple[int, Any]], jobs: int = 4, *, ends: bool = True) -> BatchHandle:
        batch_id = insert_batch(database, jobs)
        execute(database, """UPDATE jobs SET passthrough = '{"region": "EU"}' WHERE position < 2""")
        fake_worker.write_results(database, batch_id, outputs)
        if ends:
            fake_worker.end_batch(database, batch_id)
        return client.batch(batch_id)

    return make


LABELS: list[tuple[int, Any]] = [(2, GOOD), (0, "model_error"), (1, GOOD)]
EMBEDDED: list[tuple[int, Any]] = [
    (2, vectors.from_numbers(FIRST)),
    (0, "model_error"),
    (1, vectors.from_numbers(SECOND)),
]


@pytest.fixture
def labels(make_batch: MakeBatch) -> BatchHandle:
    return make_batch(LABELS)


@pytest.fixture
def embedded(make_batch: MakeBatch) -> BatchHandle:
    return make_batch(EMBEDDED)


@pytest.mark.parametrize("outputs", [LABELS, EMBEDDED], ids=["labels", "vectors"])
class TestTables:
    def test_each_is_what_its_package_reads_from_a_parquet_file(
        self, make_batch: MakeBatch, outputs: list[tuple[int, Any]], tmp_path: Path
    ) -> None:
        batch, path = make_batch(outputs), tmp_path / "out.parquet"
        batch.to_parquet(path)

        assert batch.to_arrow() == pyarrow.parquet.read_table(path)
        pandas.testing.assert_frame_equal(batch.to_pandas(), pandas.read_parquet(path))
        expected = polars.read_parquet(path)
        assert batch.to_polars().schema == expected.schema
        assert batch.to_polars().equals(expected)

    def test_only_some_results_may_be_read(self, make_batch: MakeBatch, outputs: list[tuple[int, Any]]) -> None:
        batch = make_batch(outputs)

        assert batch.to_arrow(status="failed")["position"].to_pylist() == [0]
        assert batch.to_polars(after=1)["position"].to_list() == [0, 1]
        assert batch.to_pandas(status=["succeeded"], after=1)["position"].tolist() == [1]
        with pytest.raises(UsageError, match="a result's status is one of succeeded, failed"):
            batch.to_arrow(status="good")
        for after in (-1, 2**63, "1", None, 1.0):
            with pytest.raises(UsageError, match="after is the seq of a result"):
                batch.results(after=after)  # type: ignore[arg-type]
        assert [row.position for row in batch.results(after=numpy.int64(1))] == [0, 1]  # type: ignore[arg-type]


def test_vectors_are_lists_of_one_length(embedded: BatchHandle) -> None:
    table = embedded.to_arrow()

    assert str(table.schema.field("embedding").type) == "fixed_size_list<item: float>[3]"
    assert table["embedding"].to_pylist() == [None, pytest.approx(SECOND), pytest.approx(FIRST)]
    assert embedded.to_polars()["embedding"].dtype == polars.Array(polars.Float32, 3)
    assert embedded.to_pandas()["embedding"][2].dtype == numpy.float32


def test_a_frame_of_pandas_can_be_changed(labels: BatchHandle) -> None:
    frame = labels.to_pandas()

    frame.loc[1, "score"] = 0.75
    frame.loc[1, "attempts"] = 9

    assert (frame["score"][1], frame["attempts"][1]) == (0.75, 9)


def test_an_empty_batch_has_the_columns(make_batch: MakeBatch) -> None:
    batch = make_batch([])

    assert batch.to_arrow().num_rows == len(batch.to_pandas()) == batch.to_polars().height == 0
    assert {"position", "status", "output"} <= set(batch.to_polars().columns)


class TestReader:
    @over_sql_only("tables_come_whole")
    def test_batches_come_while_the_results_are_read(
        self, labels: BatchHandle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PAGE_ROWS", 2)
        monkeypatch.setattr(arrow, "BATCH_ROWS", 2)
        pages_read: list[int] = []
        fetch = pages._fetch_page
        monkeypatch.setattr(
            pages, "_fetch_page", lambda *args, **kwargs: pages_read.append(1) or fetch(*args, **kwargs)
        )

        reader = labels.iter_arrow()
        pages_read.clear()
        first = reader.read_next_batch()

        assert (first.num_rows, len(pages_read)) == (2, 1)
        assert [batch.num_rows for batch in reader] == [1]
        assert reader.schema == labels.to_arrow().schema

    def test_other_packages_read_it(self, embedded: BatchHandle) -> None:
        assert polars.DataFrame(embedded.iter_arrow()).equals(embedded.to_polars())

    def test_an_output_that_does_not_fit_is_a_usage_error(self, make_batch: MakeBatch) -> None:
        batch = make_batch([(0, GOOD), (1, {"other": 1})])

        with pytest.raises(UsageError, match=OTHER_FIELDS):
            batch.to_arrow()
        with pytest.raises(UsageError, match=OTHER_FIELDS):
            list(batch.iter_arrow())


class TestEmbeddings:
    def test_row_i_is_the_job_at_position_i(self, embedded: BatchHandle) -> None:
        result = embedded.embeddings()

        assert (result.dtype, result.shape) == (numpy.float32, (4, 3))
        assert result[2].tolist() == pytest.approx(FIRST)
        assert result[1].tolist() == pytest.approx(SECOND)
        assert numpy.isnan(result[[0, 3]]).all()

    @pytest.mark.parametrize("rows", [1, 2, 3, 5])
    def test_pages_join_without_a_gap(self, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        monkeypatch.setattr(matrix, "PAGE_BYTES", rows * 8)
        answers = [(position, vectors.from_numbers([position, -position])) for position in (5, 1, 0, 2, 4)]

        result = make_batch(answers, 6).embeddings()

        assert result[:, 0].tolist() == [0.0, 1.0, 2.0, pytest.approx(numpy.nan, nan_ok=True), 4.0, 5.0]

    def test_the_peak_is_the_matrix_and_a_page(self, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(matrix, "PAGE_BYTES", 2**18)
        vector = vectors.from_numbers([0.25] * 1024)
        batch = make_batch([(position, vector) for position in range(1000)], 1000)
        batch.embeddings()  # imports and caches are not counted

        tracemalloc.start()
        try:
            result = batch.embeddings()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert (result == 0.25).all()
        assert peak < result.nbytes + 2**21

    def test_a_batch_that_can_not_be_one_is_refused(self, make_batch: MakeBatch, labels: BatchHandle) -> None:
        vector = vectors.from_numbers(FIRST)

        with pytest.raises(UsageError, match=r"the outputs of batch_.* are no vectors, which a (matrix|\.npy file) "):
            labels.embeddings()
        with pytest.raises(UsageError, match=r"no job of batch_.* has succeeded"):
            make_batch([(0, "model_error")]).embeddings()
        with pytest.raises(UsageError, match=r"is in_progress, so vectors may be missing; .* wait\(\)"):
            make_batch([(0, vector)], ends=False).embeddings()
        with pytest.raises(UsageError, match=r"position 1 has 2 numbers, the first has 3|broke the export off twice"):
            make_batch([(0, vector), (1, vectors.from_numbers([1, 2]))]).embeddings()

    def test_a_cancelled_batch_has_those_that_it_has(self, make_batch: MakeBatch, database: Database) -> None:
        batch = make_batch([(1, vectors.from_numbers(FIRST))], ends=False)
        fake_worker.end_batch(database, batch.id, BatchStatus.CANCELLED)

        assert numpy.isnan(batch.embeddings()[:, 0]).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("iter_arrow", "pyarrow"),
        ("to_arrow", "pyarrow"),
        ("to_pandas", "pandas"),
        ("to_polars", "polars"),
        ("embeddings", "numpy"),
    ],
)
def test_a_missing_package_is_named_with_the_command(
    embedded: BatchHandle, monkeypatch: pytest.MonkeyPatch, method: str, package: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find_spec(name))

    with pytest.raises(UsageError, match=f"this needs {package}; in the checkout, run: pip install .* {package}"):
        getattr(embedded, method)()
