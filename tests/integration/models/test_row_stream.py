"""A query's rows straight from the driver, in short lists; the connection can be used afterwards."""

from collections.abc import Generator, Iterator
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import Connection, text

from models.db import Database, PoolOptions
from models.dialects.row_stream import stream_rows
from models.errors import DatabaseRefused, Unreachable

COUNT_UP = text("""
WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :last)
SELECT number, 'row ' || number FROM numbers WHERE number <= :last
""")
MANY = 1_000_000  # which no buffer has room for
SESSION = text("SELECT pg_backend_pid()")


@pytest.fixture(autouse=True, params=["chunks", "single rows"])
def libpq(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, or as before version 17."""
    if request.param == "single rows":
        monkeypatch.setattr(psycopg.capabilities, "has_stream_chunked", lambda: False)


@pytest.fixture
def single(database_url: str) -> Iterator[Database]:
    """A database with one connection."""
    database = Database(database_url, pool=PoolOptions(1))
    yield database
    database.close()


def numbers(connection: Connection, last: int) -> Generator[list[int], None, None]:
    with connection.begin(), closing(stream_rows(connection, COUNT_UP, {"last": last}, 3)) as fetched:
        for rows in fetched:
            assert [name for _, name in rows] == [f"row {number}" for number, _ in rows]
            yield [number for number, _ in rows]


@pytest.mark.parametrize(
    ("last", "lists"), [(0, []), (2, [[1, 2]]), (3, [[1, 2, 3]]), (7, [[1, 2, 3], [4, 5, 6], [7]])]
)
def test_rows_come_in_short_lists(single: Database, last: int, lists: list[list[int]]) -> None:
    with single.read() as connection:
        assert list(numbers(connection, last)) == lists
        assert list(numbers(connection, last)) == lists


def test_texts_are_as_they_are(single: Database) -> None:
    odd = "50 % %s %(a)s :b \N{GRINNING FACE}\u2028\x01"
    with single.read() as connection, connection.begin():
        assert list(stream_rows(connection, text("SELECT :odd, '100 %'"), {"odd": odd}, 3)) == [[(odd, "100 %")]]


def test_a_query_that_is_broken_off_leaves_its_connection_as_before(single: Database) -> None:
    is_postgresql = single.engine.dialect.name == "postgresql"
    with single.read() as connection:
        session = connection.scalar(SESSION) if is_postgresql else None
        connection.rollback()
        with closing(numbers(connection, MANY)) as listing:
            assert next(listing) == [1, 2, 3]
        assert list(numbers(connection, 4)) == [[1, 2, 3], [4]]
    with single.read() as connection:
        assert not is_postgresql or connection.scalar(SESSION) == session


def test_a_refused_statement_is_an_error_of_ours(single: Database) -> None:
    with pytest.raises(DatabaseRefused), single.read() as connection, connection.begin():
        list(stream_rows(connection, text("SELECT * FROM nowhere"), {}, 3))

    with single.read() as connection:
        assert list(numbers(connection, 2)) == [[1, 2]]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_session_that_ends_half_way_is_unreachable(single: Database, database: Database) -> None:
    def end_session_half_way() -> None:
        with single.read() as connection:
            session = connection.scalar(SESSION)
            connection.rollback()
            listing = numbers(connection, MANY)
            next(listing)
            with database.read() as other:
                other.execute(text("SELECT pg_terminate_backend(:session)"), {"session": session})
            list(listing)

    with pytest.raises(Unreachable):
        end_session_half_way()

    with single.read() as connection:
        assert list(numbers(connection, 2)) == [[1, 2]]
