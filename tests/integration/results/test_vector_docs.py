"""The snippets on vectors in the pages output.md, vectors.md and python.md run as they stand."""

import csv
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner
from sqlalchemy import text

import batchmill
from models import vectors
from models.db import Database
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.sqlite_vec import connect_with_sqlite_vec

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reference" / "output.md").read_text("utf-8")
SECTION = PAGE.split("\n## Vectors\n")[1].split("\n## ")[0]
[PYTHON] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
PGVECTOR, SQLITE_VEC = re.findall(r"```sql\n(.*?)```", SECTION, re.DOTALL)
[ALTER_TYPE] = re.findall(r"`(ALTER TABLE .*?)`", SECTION)
SEARCHES = (DOCS / "how-to" / "vectors.md").read_text("utf-8")
[NEAREST_BY_PGVECTOR] = re.findall(r"^(SELECT s\.text.*?);", SEARCHES, re.DOTALL | re.MULTILINE)
[NEAREST_BY_SQLITE_VEC] = re.findall(r'execute\("""(.*?)"""\)', SEARCHES, re.DOTALL)
NEAREST_BY_NUMPY = re.findall(r"print\((np\..*)\)", SEARCHES)
[NEAREST_TO_THE_FIRST] = re.findall(r"nearest = (.*)", (DOCS / "how-to" / "python.md").read_text("utf-8"))
NUMBERS = [[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]]


def insert_results(database: Database) -> str:
    """Insert a batch with the ids r1 to r4, of which the last has failed."""
    batch_id = insert_batch(database, 4)
    execute(database, "UPDATE jobs SET custom_id = 'r' || (position + 1)")
    results = [*enumerate(map(vectors.from_numbers, NUMBERS)), (3, "text_too_long")]
    fake_worker.write_results(database, batch_id, results)
    return batch_id


def export(batch_id: str, *options: str) -> None:
    assert CliRunner().invoke(batchmill.cli, ["results", batch_id, *options]).exit_code == 0


def test_files_are_read_in_python(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars", "pyarrow"):
        pytest.importorskip(name)
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", sqlite_url)
    monkeypatch.chdir(tmp_path)
    with closing(Database(sqlite_url)) as database:
        batch_id = insert_results(database)
    for name in ("vectors.npy", "vectors.parquet"):
        export(batch_id, "-o", name)

    names: dict[str, Any] = {}
    exec(PYTHON, names)

    expected = numpy.array(NUMBERS, "float32")
    assert numpy.array_equal(names["matrix"][:3], expected)
    assert numpy.isnan(names["matrix"][3]).all()
    for name in ("column", "stacked"):
        assert names[name].dtype == numpy.float32
        assert numpy.array_equal(names[name], expected)


def test_pgvector_finds_the_nearest_rows(pgvector_database: Database) -> None:
    batch_id = insert_results(pgvector_database)
    export(batch_id, "--to-sql", "vectors")
    execute(pgvector_database, "CREATE EXTENSION vector")
    execute(pgvector_database, ALTER_TYPE.replace("384", "2"))

    export(batch_id, "--to-sql", "vectors")

    with pgvector_database.read() as connection:
        assert [row.custom_id for row in connection.exec_driver_sql(PGVECTOR)] == ["r3", "r2"]


def test_a_cell_of_csv_is_a_vector_for_pgvector(pgvector_database: Database, tmp_path: Path) -> None:
    export(insert_results(pgvector_database), "-o", str(tmp_path / "vectors.csv"))
    execute(pgvector_database, "CREATE EXTENSION vector")
    with (tmp_path / "vectors.csv").open(newline="") as file:
        cells = [row["embedding"] for row in csv.DictReader(file)]

    with pgvector_database.read() as connection:
        query = text("SELECT CAST(CAST(:cell AS vector) AS real[])")
        numbers = [connection.scalar(query, {"cell": cell}) for cell in cells if cell]

    assert numbers == NUMBERS


def test_sqlite_vec_finds_the_nearest_rows(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", sqlite_url)
    with closing(Database(sqlite_url)) as database:
        export(insert_results(database), "--to-sql", "vectors")

    with closing(connect_with_sqlite_vec(tmp_path / "batchmill.db")) as connection:
        assert [row[0] for row in connection.execute(SQLITE_VEC)] == ["r3", "r2"]


def insert_tickets(database: Database) -> None:
    """Write the tables of vectors.md; each first job has failed, and ticket 2 is the nearest to search 1."""
    for table, numbers in (("ticket_vectors", [[0.0, 1.0], [1.0, 0.0]]), ("search_vectors", [[0.75, 0.25]])):
        batch_id = insert_batch(database, 1 + len(numbers))
        found = enumerate(map(vectors.from_numbers, numbers), start=1)
        fake_worker.write_results(database, batch_id, [(0, "text_too_long"), *found])
        export(batch_id, "--to-sql", table)
        execute(database, f"UPDATE {table} SET text = '{table} ' || position")


def test_sqlite_vec_skips_failed_rows(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", sqlite_url)
    with closing(Database(sqlite_url)) as database:
        insert_tickets(database)

    with closing(connect_with_sqlite_vec(tmp_path / "batchmill.db")) as connection:
        rows = connection.execute(NEAREST_BY_SQLITE_VEC).fetchall()

    assert [row[:2] for row in rows] == [("search_vectors 1", "ticket_vectors 2")]


def test_pgvector_skips_failed_rows(pgvector_database: Database) -> None:
    execute(pgvector_database, "CREATE EXTENSION vector")
    insert_tickets(pgvector_database)

    with pgvector_database.read() as connection:
        rows = connection.exec_driver_sql(NEAREST_BY_PGVECTOR).all()

    assert [row[:2] for row in rows] == [("search_vectors 1", "ticket_vectors 2")]


def test_numpy_skips_failed_rows() -> None:
    matrix = numpy.array([[1.0, 0.0], [numpy.nan, numpy.nan], [0.0, 1.0], [0.75, 0.25]], "float32")
    names = {"np": numpy, "matrix": matrix, "tickets": matrix, "searches": matrix[2:]}

    assert len(NEAREST_BY_NUMPY) == 2
    assert all(list(eval(snippet, names)) == [2, 0] for snippet in NEAREST_BY_NUMPY)
    assert list(eval(NEAREST_TO_THE_FIRST.partition("  #")[0], names)) == [0, 3, 2, 1]
