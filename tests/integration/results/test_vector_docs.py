"""The section of docs/output.md on vectors: its snippets run as they stand."""

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

PAGE = (Path(__file__).parents[3] / "docs" / "output.md").read_text("utf-8")
SECTION = PAGE.split("\n## Vectors\n")[1].split("\n## ")[0]
[PYTHON] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
PGVECTOR, SQLITE_VEC = re.findall(r"```sql\n(.*?)```", SECTION, re.DOTALL)
[ALTER_TYPE] = re.findall(r"`(ALTER TABLE .*?)`", SECTION)
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
