"""Exports of vectors: one form for each target, equal numbers in all of them."""

import csv
import json
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner, Result

import batchmill
from batchmill import Client
from models import vectors
from models.db import Database
from models.errors import UsageError
from tests import fake_worker
from tests.factories.batch_rows import insert_batch

NUMBERS = [[0.1, -2.0, 1e-9], [0.30000001, 7.0, 0.0]]
VECTORS = [vectors.from_numbers(numbers) for numbers in NUMBERS]


@pytest.fixture
def batch_id(database: Database) -> str:
    """A batch whose job at position 1 has failed, and whose last one is unanswered."""
    batch_id = insert_batch(database, 4)
    fake_worker.write_results(database, batch_id, [(2, VECTORS[1]), (0, VECTORS[0]), (1, "text_too_long")])
    return batch_id


def run(*arguments: object) -> Result:
    return CliRunner().invoke(batchmill.cli, list(map(str, arguments)))


def float32(values: object) -> bytes:
    return numpy.array(values, "<f4").tobytes()


def test_a_matrix_has_a_row_for_each_job(batch_id: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"

    result = run("results", batch_id, "-o", path)

    assert result.stderr == (
        f"wrote 2 results to {path}; 1 jobs of the batch are unanswered\n"
        "2 rows of the matrix are NaN: their jobs have no vector\n"
    )
    matrix = numpy.load(path, mmap_mode="r")
    assert (matrix.shape, matrix.dtype) == ((4, 3), numpy.float32)
    assert matrix[[0, 2]].tobytes() == b"".join(VECTORS)
    assert numpy.isnan(matrix[[1, 3]]).all()


def test_a_matrix_holds_all_jobs_of_a_batch_with_vectors(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    labels = insert_batch(database, 1)

    assert "no job of" in run("results", labels, "-o", path).stderr
    fake_worker.write_results(database, labels, [(0, {"label": "GOOD"})])
    assert "are no vectors, which a .npy file needs" in run("results", labels, "-o", path).stderr
    for options in (["--after", 1], ["--status", "succeeded"]):
        assert "leave out --after and --status" in run("results", labels, "-o", path, *options).stderr
    assert "errors are no vectors" in run("errors", labels, "-o", path).stderr
    assert not path.exists()


def test_python_writes_the_same_matrix(database: Database, batch_id: str, tmp_path: Path) -> None:
    run("results", batch_id, "-o", tmp_path / "console.npy")

    with Client(database.url) as client:
        assert client.batch(batch_id).to_npy(tmp_path / "python.npy") == 2

    assert (tmp_path / "python.npy").read_bytes() == (tmp_path / "console.npy").read_bytes()


def test_text_formats_have_lists_that_are_equal_in_float32(batch_id: str, tmp_path: Path) -> None:
    for name in ("out.csv", "out.jsonl"):
        assert run("results", batch_id, "-o", tmp_path / name).exit_code == 0

    with (tmp_path / "out.csv").open(newline="") as file:
        cells = [row["embedding"] for row in csv.DictReader(file)]
    outputs = [json.loads(line)["output"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    printed = [json.loads(line)["output"] for line in run("results", batch_id, "--json").stdout.splitlines()]
    assert [cell and float32(json.loads(cell)) for cell in cells] == [VECTORS[0], "", VECTORS[1]]
    assert [output and float32(output) for output in outputs] == [VECTORS[0], None, VECTORS[1]]
    assert printed == [outputs[2], outputs[0], None]


def test_python_reads_the_same_list(database: Database, batch_id: str) -> None:
    with Client(database.url) as client:
        row = next(client.batch(batch_id).results())

    assert float32(row.output) == row.vector == VECTORS[1]
    assert float32(row.as_dict()["output"]) == VECTORS[1]


def test_parquet_has_lists_of_one_length(batch_id: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    assert run("results", batch_id, "-o", tmp_path / "out.parquet").exit_code == 0

    column = parquet.read_table(tmp_path / "out.parquet").column("embedding")
    assert (column.type.list_size, str(column.type.value_type)) == (3, "float")
    assert [value and float32(value) for value in column.to_pylist()] == [VECTORS[0], None, VECTORS[1]]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.npy"])
def test_vectors_of_two_lengths_write_no_file(database: Database, batch_id: str, tmp_path: Path, name: str) -> None:
    fake_worker.write_results(database, batch_id, [(3, vectors.from_numbers([0.5]))])

    with Client(database.url) as client, pytest.raises(UsageError, match="position 3 has 1 numbers, the first has 3"):
        getattr(client.batch(batch_id), f"to_{name[4:]}")(tmp_path / name)

    assert not (tmp_path / name).exists()
