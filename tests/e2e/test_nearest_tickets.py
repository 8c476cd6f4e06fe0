"""The example of nearest tickets, run with its real model in one process, and its search in both databases.

The processes of both examples are tested with the nightly one.
"""

import importlib
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.single_process import SingleProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nearest_tickets"


def rows(file: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's program, without the processes of `batchmill up`."""
    monkeypatch.syspath_prepend(EXAMPLE)
    program = importlib.import_module("run")
    monkeypatch.setattr(program, "Deployment", partial(SingleProcess, monkeypatch, "03:00+01:00"))
    yield program
    for name in ("run", "shop", "deployment"):
        sys.modules.pop(name, None)


def test_the_example_ends_as_its_page_says(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(tmp_path, f"sqlite:///{tmp_path / 'shop.db'}")

    output = capsys.readouterr().out
    runs = rows(tmp_path / "home" / "batchmill.db", "SELECT state, id_type FROM runs ORDER BY scheduled_at")
    counts = rows(tmp_path / "home" / "batchmill.db", "SELECT total, succeeded FROM batches ORDER BY created_at")
    assert runs == [("completed", "integer")] * 3
    assert counts == [(64, 64), (5, 5), (69, 69)]
    vectors = "SELECT count(*), count(DISTINCT embedding_key), max(length(embedding)) FROM ticket_vectors"
    assert rows(tmp_path / "shop.db", vectors) == [(69, 1, 32 * 4)]
    [blob] = rows(tmp_path / "shop.db", "SELECT embedding FROM ticket_vectors WHERE id = 65")[0]
    assert numpy.linalg.norm(numpy.frombuffer(blob, "<f4")) == pytest.approx(1.0, abs=1e-5)
    for line in ("My espresso machine is so loud.", "My coffee machine makes a loud noise.  Send it in for repair."):
        assert output.count(line) == 2
    assert "69 vectors, made with 1 model and settings" in output


def test_both_databases_find_the_same(example: ModuleType, postgresql_url: str, tmp_path: Path) -> None:
    numbers = {1: [1.0, 0.0], 2: [0.6, 0.8], 3: [0.0, 1.0], 4: [0.8, 0.6]}
    url = postgresql_url.replace("+psycopg", "")
    found = []
    for shop_url, column in ((f"sqlite:///{tmp_path / 'shop.db'}", "BLOB"), (url, "vector(2)")):
        engine = create_engine(shop_url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
        if column != "BLOB":
            with engine.connect() as connection:
                if not connection.scalar(text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")):
                    pytest.skip("this PostgreSQL has no pgvector")
        tickets = example.TicketDatabase(shop_url)
        tickets.insert_tickets(1, [(f"ticket {key}", f"answer {key}") for key in (*numbers, 5, 6)])
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE ticket_vectors (id INTEGER, embedding {column})"))
            connection.execute(text("INSERT INTO ticket_vectors (id) VALUES (5), (6)"))  # whose jobs have failed
            for key, vector in numbers.items():
                value = numpy.array(vector, "<f4").tobytes() if column == "BLOB" else str(vector)
                insert = text("INSERT INTO ticket_vectors VALUES (:id, :vector)")
                connection.execute(insert, {"id": key, "vector": value})
        found.append([(*match[:5], round(match.similarity, 4)) for match in tickets.find_nearest(4, 2)])

    assert found[0] == found[1]
    assert found[0] == [
        (4, "ticket 4", 2, "ticket 2", "answer 2", 0.96),
        (4, "ticket 4", 1, "ticket 1", "answer 1", 0.8),
    ]
