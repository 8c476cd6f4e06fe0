"""A Python program submits files and queries through the functions that the command has."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchmill import BatchHandle, Client, InvalidRows, UnreadableSource, UsageError

PIPELINE = "sample-sentiment-analysis"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"id": 1, "body": "first"}\n{"id": 2, "body": "second"}\n')
    Path("b.csv").write_text("id,body\n3,third\n")
    with closing(sqlite3.connect("shop.db")) as shop, shop:
        shop.execute("CREATE TABLE reviews (id INTEGER, body TEXT, day TEXT)")
        shop.execute("INSERT INTO reviews VALUES (7, 'bad', 'monday'), (8, 'good', 'tuesday')")
    url, query = f"sqlite:///{tmp_path}/shop.db", "SELECT * FROM reviews WHERE day = :day"
    Path("batchmill.toml").write_text(f'[sources.reviews]\nurl = "{url}"\nquery = "{query}"\n')
    with Client() as client:
        yield client


def ids_of(batch: BatchHandle) -> list[str | None]:
    database = batch._access._database  # type: ignore[attr-defined]
    with database.read() as connection:
        query = "SELECT custom_id FROM jobs ORDER BY position"
        return [row[0] for row in connection.exec_driver_sql(query)]


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ("a.jsonl", ["1", "2"]),
        (Path("b.csv"), ["3"]),
        (["a.jsonl", Path("b.csv")], ["1", "2", "3"]),
        ("*.jsonl", ["1", "2"]),
    ],
)
def test_files_are_submitted(client: Client, files: Any, ids: list[str]) -> None:
    assert ids_of(client.submit(PIPELINE, files=files, input_columns={"text": "body"})) == ids


def test_a_query_is_submitted(client: Client) -> None:
    batch = client.submit(PIPELINE, sql="reviews", bind={"day": "tuesday"}, input_columns={"text": "body"})

    assert ids_of(batch) == ["8"]


def test_a_table_without_a_header_is_noticed(client: Client) -> None:
    Path("b.csv").write_text("17,good as it is,4.5\n23,bad,1.0\n")

    batch = client.submit(PIPELINE, files="b.csv", input_columns={"text": "good as it is"})

    assert batch.warning is not None
    assert batch.warning.startswith("b.csv: the first line is taken as the names of the columns: '17'")


def test_a_table_without_a_header_has_the_names_that_are_given(client: Client) -> None:
    Path("b.csv").write_text("17,good as it is,4.5\n23,bad,1.0\n")

    lists = client.submit(PIPELINE, files="b.csv", column_names=["id", "text", "stars"])
    with pytest.raises(UnreadableSource, match=r"b\.csv has 3 cells in line 1, and 1 column name \(text\)"):
        client.submit(PIPELINE, files="b.csv", column_names="text")

    assert "the first line" not in str(lists.warning)
    assert ids_of(lists) == ["17", "23"]


def test_the_format_may_be_named(client: Client) -> None:
    Path("a.jsonl").rename("a.data")

    batch = client.submit(PIPELINE, files="a.data", file_format="jsonl", input_columns={"text": "body"})

    assert ids_of(batch) == ["1", "2"]


def test_messages_name_pythons_arguments(client: Client) -> None:
    with pytest.raises(UnreadableSource, match=r"say which to use: input_columns=\{'text': COLUMN\}"):
        client.submit(PIPELINE, files="b.csv")
    with pytest.raises(InvalidRows, match=r"line 1: has no 'text'; .* input_columns=\{'FIELD': COLUMN\}"):
        client.submit(PIPELINE, files="a.jsonl")


def test_messages_name_no_option_of_the_command(client: Client) -> None:
    Path("a.jsonl").rename("a.data")
    Path("b.parquet").write_text('{"text": "a"}')

    for arguments in ({"files": "a.data"}, {"files": "b.parquet"}, {"sql": "reviews"}):
        with pytest.raises(UsageError) as error:
            client.submit(PIPELINE, **arguments)
        assert "--" not in str(error.value)
    with pytest.raises(UsageError, match="say which to use: passthrough="):
        client.submit(PIPELINE, ["a"], passthrough=[""])


WHAT_TO_SUBMIT = "say what to submit: inputs, files, sql or from_batch, and only one of them"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, WHAT_TO_SUBMIT),
        ({"inputs": ["a"], "files": "a.jsonl"}, WHAT_TO_SUBMIT),
        ({"files": []}, "files names no file"),
        ({"files": "a.jsonl", "ids": ["a"]}, "ids go with inputs"),
        ({"files": "a.jsonl", "bind": {"day": "monday"}}, "bind sets parameters of a query"),
        ({"sql": "reviews", "file_format": "csv"}, "file_format is that of files"),
        ({"sql": "reviews", "column_names": ["a"]}, "column names are for CSV and TSV files; leave them out"),
        ({"inputs": ["a"], "column_names": ["a"]}, "column names are for CSV and TSV files; leave them out"),
        ({"files": "a.jsonl", "column_names": ["a"]}, "column names are for CSV and TSV, and a.jsonl is read as jsonl"),
        ({"files": "b.csv", "column_names": []}, "column_names has no name"),
        ({"sql": "others"}, "there is no source 'others'"),
        ({"sql": 5}, "sql must be text"),
        ({"sql": "reviews", "bind": [1]}, "bind must be a mapping"),
        ({"files": "a.jsonl", "file_format": "txt"}, "there is no file_format 'txt'; use jsonl, csv, tsv, parquet"),
        ({"files": "a.jsonl", "file_format": "Parquet"}, "there is no file_format 'Parquet'"),
        ({"files": 5}, "files must be a path"),
        ({"files": b"a.jsonl"}, "files must be a path"),
        ({"files": {"text": "a.jsonl"}}, "files must be a path"),
        ({"inputs": ["a"], "input_columns": ["text"]}, "input_columns must be a mapping"),
        ({"inputs": [{"text": "a"}], "passthrough": 5}, "has no '5' to keep"),
        ({"files": ["a.jsonl", 5]}, "each path in files must be text or a pathlib.Path"),
        ({"files": "none.csv"}, "there is no file none.csv"),
    ],
)
def test_what_does_not_go_together_is_refused(client: Client, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        client.submit(PIPELINE, **arguments)

    assert client.batches() == []
