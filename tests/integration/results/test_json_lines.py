"""Results as JSON of the database: the same text that Python puts together, whatever the values."""

import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from models.db import Database
from models.states import JobOutcome
from models.tables.batches import Job
from models.tables.results import ModelVersion, Result
from producer.results import pages
from producer.results.result_columns import RESULT_COLUMNS
from producer.results.result_row import without_folders
from tests import fake_worker
from tests.factories.batch_rows import insert_batch

CONTROLS = "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\x9f"
HOSTILE = [
    "",
    "null",
    '"',
    "\\",
    "'; --",
    "%s %% %(x)s $1 :position ?",
    "{0} {columns}",
    "</script><script>alert(1)</script>&",
    CONTROLS,
    "\u2028\u2029\ufeff\u202e\u200f",
    "ÄöΩ中😀👩\u200d👩",
    "\U0010ffff\ue000\ufffd",
    "\\u0041\\n/\\/",
    "x" * 10_000,
]
ALPHABET = [*"abc \"\\/'%{}:,", *CONTROLS, "é", "\u2028", "😀", "\ufffe"]
MOMENTS = [
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 1_500, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(9999, 1, 1, 0, 0, 0, 500, tzinfo=UTC),
]
LARGEST = 2**31 - 1


def hostile_texts(choose: random.Random) -> list[str]:
    """Return the hostile texts, and as many that are drawn."""
    drawn = ["".join(choose.choices(ALPHABET, k=choose.randrange(1, 30))) for _ in HOSTILE]
    return HOSTILE + drawn


def set_values(database: Database, table: Any, batch_id: str, position: int, values: dict[str, Any]) -> None:
    """Change a row of a job or a result."""
    with database.write() as connection:
        place = (table.batch_id == batch_id) & (table.position == position)
        connection.execute(update(table).where(place).values(**values))


def fill(database: Database, batch_id: str, texts: list[str], choose: random.Random) -> None:
    """Give each job of a batch hostile values in each column, or NULL."""

    def some(value: Any) -> Any:
        return choose.choice([value, value, None])

    for position, text in enumerate(texts):
        document = {text: [text, None, True, 1e-9, -(10**20), 0.1, {}]}
        job = {"custom_id": some(text), "passthrough": some(document), "original_input": some(document)}
        origin = {"source_batch_id": some(text), "source_position": some(2**62)}
        set_values(database, Job, batch_id, position, {"input": document, **job, **origin})
        result = {
            "status": choose.choice(list(JobOutcome)).value,
            "output": some(document),
            "error_code": some(text),
            "error_message": some(text),
            "truncated": choose.choice([True, False]),
            "attempts": choose.choice([0, LARGEST]),
            "finished_at": choose.choice(MOMENTS),
            "reused_from": some(text),
            "windows": some(choose.choice([0, LARGEST])),
            "guards": some([document]),
            "input_tokens": some(choose.choice([0, LARGEST])),
            "output_tokens": some(choose.choice([0, LARGEST])),
            "finish_reason": some(text),
        }
        set_values(database, Result, batch_id, position, result)


@pytest.fixture
def batch_id(database: Database) -> str:
    """Insert a batch with a result for each hostile text, the last of them without a model version."""
    choose = random.Random(7)
    texts = hostile_texts(choose)
    batch_id = insert_batch(database, len(texts))
    fake_worker.write_results(database, batch_id, [(position, {}) for position in range(len(texts))])
    fill(database, batch_id, texts, choose)
    set_values(database, Result, batch_id, len(texts) - 1, {"model_version_id": None})
    return batch_id


def json_and_lines(database: Database, batch_id: str) -> tuple[list[str], list[str]]:
    """Return the lines that the database and Python put together."""
    rows, has_more = pages.fetch_page(database, batch_id, 0, 1_000)
    assert not has_more
    return [f"{row.text}\n" for row in rows], [row.json_line() for row in pages.iter_results(database, batch_id)]


def test_texts_are_those_of_python_byte_for_byte(database: Database, batch_id: str) -> None:
    names = ("model", "revision", "dtype", "device", "adapter", "adapter_revision")
    for version_text in HOSTILE:
        with database.write() as connection:
            connection.execute(update(ModelVersion).values(**dict.fromkeys(names, version_text)))

        of_database, of_python = json_and_lines(database, batch_id)

        assert of_database == of_python
        assert [json.loads(line)["position"] for line in of_database] == list(range(len(HOSTILE) * 2))


@pytest.mark.parametrize(
    "name", ["/srv/models/größe 1", "/m", "//srv/a//b", "distilbert/base", "sha256:1", "'/x", "ü/ü", "", None]
)
def test_a_folder_is_named_by_its_last_part(database: Database, batch_id: str, name: str | None) -> None:
    with database.write() as connection:
        connection.execute(update(ModelVersion).values(model=name or "", adapter=name))

    rows, _ = pages.fetch_page(database, batch_id, 0, 1_000, hides_folders=True)

    assert [f"{row.text}\n" for row in rows] == [
        without_folders(row).json_line() for row in pages.iter_results(database, batch_id)
    ]
    assert "/srv" not in "".join(row.text for row in rows)


def test_no_column_is_left_out(database: Database, batch_id: str) -> None:
    with database.write() as connection:
        connection.execute(update(ModelVersion).values(adapter="lora", adapter_revision="1"))

    rows, _ = pages.fetch_page(database, batch_id, 0, 1_000)

    objects = [json.loads(row.text) for row in rows]
    assert {name for row in objects for name, value in row.items() if value is not None} == {*RESULT_COLUMNS} - {
        "vector"
    }


def test_a_vector_is_the_output(database: Database) -> None:
    unusual = np.array([0.0, -0.0, 3.4e38, -3.4e38, 1e-45, 0.1], "<f4").tobytes()
    batch_id = insert_batch(database, 4)
    outputs = [(2, unusual), (0, {"label": "x"}), (1, "model_error"), (3, bytes(4))]
    fake_worker.write_results(database, batch_id, outputs)

    of_database, of_python = json_and_lines(database, batch_id)

    assert of_database == of_python
    assert [type(json.loads(line)["output"]) for line in of_database] == [list, dict, type(None), list]


def test_failures_come_by_position(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    fake_worker.write_results(database, batch_id, [(3, "model_error"), (0, {}), (1, "text_too_long")])

    rows, has_more = pages.fetch_failed_page(database, batch_id, -1, 10)

    assert [f"{row.text}\n" for row in rows] == [row.json_line() for row in pages.iter_failed(database, batch_id)]
    assert [(row.position, row.seq, row.status) for row in rows] == [(1, 3, "failed"), (3, 1, "failed")]
    assert not has_more


def test_a_page_ends_with_the_rows_that_reach_its_limit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "FETCH_ROWS", 2)
    batch_id = insert_batch(database, 5)
    fake_worker.write_results(database, batch_id, [(position, {"text": "x" * 1_000}) for position in range(5)])

    whole, _ = pages.fetch_page(database, batch_id, 0, 5)
    limit = sum(row.documents_length for row in whole[:2])
    cut, has_more = pages.fetch_page(database, batch_id, 0, 5, max_characters=limit - 1)

    assert [row.seq for row in whole] == [1, 2, 3, 4, 5]
    assert (cut, has_more) == (whole[:2], True)
    assert [row.documents_length for row in cut] == [len(row.text) for row in cut]
