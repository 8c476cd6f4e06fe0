"""Exports of vectors: one form for each target, equal numbers in all of them."""

import csv
import json
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from batchmill import Client
from models import vectors
from models.db import Database
from models.dialects.columns import Vector
from models.errors import UsageError
from producer.batches import views
from producer.results import export
from producer.results.tables import column_types
from producer.results.tables.column_types import PgVector
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.sqlite_vec import connect_with_sqlite_vec

NUMBERS = [[0.1, -2.0, 1e-9], [0.30000001, 7.0, 0.0]]
TWO_AND_THREE = (
    "embedding in the table embedded is a vector of 2 numbers, and in these results a vector of 3 numbers; "
    "models or dimensions differ, so name another table, or drop it"
)
VECTORS = [vectors.from_numbers(numbers) for numbers in NUMBERS]


@pytest.fixture
def batch_id(database: Database) -> str:
    """A batch whose job at position 1 has failed, and whose last one is unanswered."""
    batch_id = insert_batch(database, 4)
    fake_worker.write_results(database, batch_id, [(2, VECTORS[1]), (0, VECTORS[0]), (1, "text_too_long")])
    return batch_id


def enumerate_vectors(*numbers: Sequence[float]) -> list[tuple[int, bytes]]:
    return list(enumerate(map(vectors.from_numbers, numbers)))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(batchmill.cli, list(map(str, arguments)))


def float32(values: object) -> bytes:
    return numpy.array(values, "<f4").tobytes()


def test_a_matrix_has_a_row_for_each_job(batch_id: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"

    result = run("results", batch_id, "-o", path)

    assert result.stderr == (
        f"wrote 2 results to {path}; 1 jobs of the batch are unanswered\n2 jobs without a vector: NaN in the matrix\n"
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


def test_a_table_of_the_user_s_has_vectors(database: Database, batch_id: str) -> None:
    for _ in range(2):
        result = run("results", batch_id, "--to-sql", "embedded")
        assert result.stderr.startswith("wrote 3 results to the table embedded"), result.stderr

    with database.read() as connection:
        query = text("SELECT embedding FROM embedded ORDER BY position").columns(embedding=Vector)
        assert list(connection.scalars(query)) == [VECTORS[0], None, VECTORS[1]]
        types = column_types.read_column_types(connection, "embedded")
    assert types["embedding"] == {"sqlite": "BLOB", "postgresql": "REAL[]"}[database.engine.dialect.name]


def test_a_table_without_a_success_gets_vectors_later(database: Database) -> None:
    batch_id = insert_batch(database, 2)
    fake_worker.write_results(database, batch_id, [(1, "failed")])
    run("results", batch_id, "--to-sql", "embedded")
    fake_worker.write_results(database, batch_id, [(0, VECTORS[0])])

    result = run("results", batch_id, "--to-sql", "embedded")

    assert result.exit_code == 0, result.stderr
    with database.read() as connection:
        query = text("SELECT embedding FROM embedded ORDER BY position").columns(embedding=Vector)
        assert list(connection.scalars(query)) == [VECTORS[0], None]


def test_sqlite_vec_reads_the_blob(sqlite_url: str, tmp_path: Path) -> None:
    with closing(Database(sqlite_url)) as database:
        batch_id = insert_batch(database, 2)
        fake_worker.write_results(database, batch_id, enumerate_vectors([1.0, 0.0], [0.0, 1.0]))
        export.export_table(database, views.get_batch(database, batch_id), "embedded")

    with closing(connect_with_sqlite_vec(tmp_path / "batchmill.db")) as connection:
        query = "SELECT position FROM embedded ORDER BY vec_distance_cosine(embedding, ?)"
        assert connection.execute(query, [float32([0.1, 0.9])]).fetchall() == [(1,), (0,)]


@pytest.mark.parametrize("schema_name", ["public", "extensions"])
def test_pgvector_s_type_is_taken_where_it_is_installed(pgvector_database: Database, schema_name: str) -> None:
    execute(pgvector_database, f"CREATE SCHEMA IF NOT EXISTS {schema_name}")
    execute(pgvector_database, f"CREATE EXTENSION vector SCHEMA {schema_name}")
    batch_id = insert_batch(pgvector_database, 3)
    fake_worker.write_results(pgvector_database, batch_id, [*enumerate_vectors([1.0, 0.0], [0.25, 0.5]), (2, "failed")])

    for _ in range(2):
        assert run("results", batch_id, "--to-sql", "embedded").exit_code == 0

    name = "" if schema_name == "public" else "EXTENSIONS."
    with pgvector_database.read() as connection:
        assert column_types.read_column_types(connection, "embedded")["embedding"] == f"{name}VECTOR(2)"
        operator = f"OPERATOR({schema_name}.<=>)"
        query = f"SELECT position FROM embedded ORDER BY embedding {operator} '[0.1,0.9]'::{schema_name}.vector"
        assert list(connection.scalars(text(query.replace("::", "\\:\\:")))) == [1, 0, 2]
        numbers = connection.scalar(text("SELECT CAST(embedding AS real[]) FROM embedded WHERE position = 1"))
    assert numbers == [0.25, 0.5]


def test_pgvector_s_type_needs_the_right_to_its_schema(pgvector_database: Database) -> None:
    execute(pgvector_database, "CREATE SCHEMA hidden")
    execute(pgvector_database, "CREATE EXTENSION vector SCHEMA hidden")

    with pgvector_database.read() as connection:
        assert isinstance(column_types.choose_vector_type(connection, 3), PgVector)
        connection.execute(text("SET LOCAL ROLE pg_monitor"))
        assert isinstance(column_types.choose_vector_type(connection, 3), Vector)


def test_more_dimensions_than_pgvector_has_are_an_array(pgvector_database: Database) -> None:
    execute(pgvector_database, "CREATE EXTENSION vector")
    batch_id = insert_batch(pgvector_database, 1)
    fake_worker.write_results(pgvector_database, batch_id, enumerate_vectors([0.5] * 16_001))

    assert run("results", batch_id, "--to-sql", "embedded").exit_code == 0

    with pgvector_database.read() as connection:
        assert column_types.read_column_types(connection, "embedded")["embedding"] == "REAL[]"


@pytest.mark.parametrize(
    ("sql_type", "existing", "message"),
    [
        ("vector(3)", None, None),
        ("vector", None, None),
        ("real[]", None, None),
        ("real[]", "'{1,2,3}'", None),
        ("vector", "'[1,2,3]'", None),
        ("vector(2)", None, TWO_AND_THREE),
        ("vector", "'[1,2]'", TWO_AND_THREE),
        ("real[]", "'{1,2}'", TWO_AND_THREE),
        ("halfvec(3)", None, r"is HALFVEC\(3\), and in these results VECTOR or REAL\[\]"),
        ("double precision[]", None, r"is DOUBLE PRECISION\[\], and"),
        ("jsonb", None, "is JSONB, and"),
        ("bytea", None, "is BYTEA, and"),
    ],
)
def test_a_column_that_the_user_made(
    pgvector_database: Database, sql_type: str, existing: str | None, message: str | None
) -> None:
    execute(pgvector_database, "CREATE EXTENSION vector")
    batch_id = insert_batch(pgvector_database, 3)
    fake_worker.write_results(pgvector_database, batch_id, [(2, VECTORS[1])])
    run("results", batch_id, "--to-sql", "embedded")
    execute(pgvector_database, "ALTER TABLE embedded DROP COLUMN embedding")
    execute(pgvector_database, f"ALTER TABLE embedded ADD COLUMN embedding {sql_type}")
    if existing:
        values = f"('old', 0, {existing})"
        execute(pgvector_database, f"INSERT INTO embedded (batch_id, position, embedding) VALUES {values}")

    result = run("results", batch_id, "--to-sql", "embedded")

    if message is not None:
        assert result.exit_code == 2
        assert re.search(message, result.stderr)
        return
    assert result.exit_code == 0, result.stderr
    with pgvector_database.read() as connection:
        query = "SELECT CAST(embedding AS real[]) FROM embedded WHERE batch_id <> 'old'"
        assert float32(connection.scalar(text(query))) == VECTORS[1]


def test_a_blob_keeps_its_dimensions(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", sqlite_url)
    with closing(Database(sqlite_url)) as database:
        first, second = insert_batch(database, 1), insert_batch(database, 1)
        fake_worker.write_results(database, first, enumerate_vectors([1.0, 0.0]))
        fake_worker.write_results(database, second, enumerate_vectors([1.0, 0.0, 0.5]))
    run("results", first, "--to-sql", "embedded")

    result = run("results", second, "--to-sql", "embedded")

    assert TWO_AND_THREE in result.stderr


def test_a_batch_without_a_success_has_the_columns_of_vectors(database: Database, tmp_path: Path) -> None:
    polars, parquet = pytest.importorskip("polars"), pytest.importorskip("pyarrow.parquet")
    batch_ids = [insert_batch(database, 1, task="feature-extraction") for _ in range(3)]
    for batch_id in batch_ids[:2]:
        fake_worker.write_results(database, batch_id, [(0, "text_too_long")])
    execute(database, f"UPDATE batches SET parameters = '{{\"pooling\": \"none\"}}' WHERE id = '{batch_ids[1]}'")
    fake_worker.write_results(database, batch_ids[2], enumerate_vectors([1.0, 0.0]))
    with closing(Client()) as client:
        failed, without_pooling, embedded = (client.batch(batch_id).to_polars() for batch_id in batch_ids)

    run("results", batch_ids[0], "-o", tmp_path / "failed.parquet")
    run("results", batch_ids[0], "-o", tmp_path / "failed.csv")

    assert failed.columns == embedded.columns == parquet.read_schema(tmp_path / "failed.parquet").names
    assert failed["embedding"].to_list() == [None]
    assert failed["embedding"].dtype == polars.List(polars.Float32)
    assert "output" in without_pooling.columns
    assert "embedding" in (tmp_path / "failed.csv").read_text().splitlines()[0].split(",")


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.npy"])
def test_vectors_of_two_lengths_write_no_file(database: Database, batch_id: str, tmp_path: Path, name: str) -> None:
    fake_worker.write_results(database, batch_id, [(3, vectors.from_numbers([0.5]))])

    with Client(database.url) as client, pytest.raises(UsageError, match="position 3 has 1 numbers, the first has 3"):
        getattr(client.batch(batch_id), f"to_{name[4:]}")(tmp_path / name)

    assert not (tmp_path / name).exists()
