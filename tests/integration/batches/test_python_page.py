"""The examples with data frames on the page on Python run as they stand there."""

import re
from pathlib import Path
from typing import Any

import numpy
import polars
import pytest

from batchmill import BatchHandle, Client
from models import vectors
from models.db import Database
from tests import fake_worker

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run_example(start: str, **names: Any) -> dict[str, Any]:
    [block] = [block for block in BLOCKS if block.startswith(start)]
    exec(block, names)
    return names


def answer(database: Database, batch: BatchHandle, *outputs: Any) -> None:
    fake_worker.write_results(database, batch.id, list(enumerate(outputs)))
    fake_worker.end_batch(database, batch.id)


def test_a_frame_is_submitted_and_returns_as_a_table(
    client: Client, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_example("import polars\n", client=client)
    batch = names["batch"]
    labels = [{"label": "NEGATIVE", "score": 0.9}, {"label": "POSITIVE", "score": 0.8}]
    answer(database, batch, *labels)

    frame = run_example("frame = batch.to_polars", batch=batch)["frame"]

    assert frame.select("custom_id", "text", "region", "label").rows() == [
        ("17", "My order is late.", "EU", "NEGATIVE"),
        ("18", "Thank you!", None, "POSITIVE"),
    ]
    assert capsys.readouterr().out.endswith("2\n")
    labelled = run_example("labelled = tickets", batch=batch, tickets=names["tickets"])["labelled"]
    assert labelled.select("ticket", "label").rows() == [(17, "NEGATIVE"), (18, "POSITIVE")]


def test_the_nearest_of_a_matrix_are_found(client: Client, database: Database) -> None:
    batch = client.submit("sample-sentiment-analysis", polars.Series(["a", "b", "c"]))
    answer(database, batch, *map(vectors.from_numbers, ([1.0, 0.0], [0.0, 1.0], [0.8, 0.6])))

    names = run_example("import numpy as np\n\nmatrix = batch.wait()", batch=batch)

    assert names["matrix"].dtype == numpy.float32
    assert names["nearest"].tolist() == [0, 2, 1]


def test_the_same_frame_under_a_key_is_the_same_batch(client: Client, database: Database) -> None:
    frame = polars.DataFrame({"id": [1, 2], "text": ["a", "b"]})
    first = client.submit("sample-sentiment-analysis", frame, idempotency_key="k")

    again = client.submit("sample-sentiment-analysis", frame.lazy(), idempotency_key="k")

    assert (again.id, again.already_submitted) == (first.id, True)


def test_failed_rows_are_repaired_from_a_frame(client: Client, database: Database) -> None:
    frame = polars.DataFrame({"id": [1, 2], "text": ["a", None]})
    batch = client.submit("sample-sentiment-analysis", frame, on_invalid="fail-row")
    fake_worker.write_results(database, batch.id, [(0, {"label": "GOOD"})])
    fake_worker.end_batch(database, batch.id)

    failed = batch.to_polars(status="failed").select("position", "text").with_columns(text=polars.lit("b"))
    batch.repair(failed)

    assert batch.request_counts.unanswered == 1


def test_a_script_that_waits_prints_a_last_line(
    client: Client, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = client.submit("sample-sentiment-analysis", ["a"])
    answer(database, batch, {"label": "GOOD"})
    capsys.readouterr()

    assert batch.wait(progress=True) is batch

    assert capsys.readouterr().err.startswith(f"{batch.id} completed: 1 job, 1 succeeded, 0 failed")
