"""Exports hold a page of rows in memory, however many there are and however large they are."""

import tracemalloc
from pathlib import Path

import pytest

from batchmill import Client
from models.db import Database
from models.documents import to_json
from producer.results import pages
from producer.results.formats import arrow, parquet
from tests import fake_worker
from tests.factories.batch_rows import insert_batch

ROWS, ROW_CHARACTERS = 100, 200_000
VECTORS, VECTOR_BYTES = 400, 64_000
MAX_PEAK_BYTES = 12 * 2**20  # all rows have 20 MB, and all vectors 25 MB


def export_twice(database: Database, batch_id: str, file_format: str, folder: Path) -> tuple[int, int]:
    """The number of rows in the second export, to `out`, and its peak memory."""
    with Client(database.url) as client:
        export = getattr(client.batch(batch_id), f"to_{file_format}")
        export(folder / "first")  # imports and caches are not counted
        tracemalloc.start()
        try:
            count = export(folder / "out")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return count, peak


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_the_peak_does_not_grow_with_the_rows(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(pages, "PAGE_CHARACTERS", 2**20)
    monkeypatch.setattr(pages, "FETCH_ROWS", 4)
    monkeypatch.setattr(arrow, "BATCH_BYTES", 2**20)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2**20)
    texts = [{"text": f"{number} " + "é" * (ROW_CHARACTERS // 2)} for number in range(ROWS)]
    batch_id = insert_batch(database, texts)
    fake_worker.write_results(database, batch_id, [(number, {"label": "x" * 9}) for number in range(ROWS)])

    count, peak = export_twice(database, batch_id, file_format, tmp_path)

    assert count == ROWS
    assert (tmp_path / "out").stat().st_size > (0 if file_format == "parquet" else len(to_json(texts)))
    assert peak < MAX_PEAK_BYTES


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
def test_nor_with_the_vectors(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    monkeypatch.setattr(pages, "PAGE_CHARACTERS", 2**20)
    monkeypatch.setattr(pages, "FETCH_ROWS", 4)
    monkeypatch.setattr(arrow, "BATCH_BYTES", 2**20)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2**20)
    batch_id = insert_batch(database, VECTORS)
    fake_worker.write_results(database, batch_id, [(number, bytes(VECTOR_BYTES)) for number in range(VECTORS)])

    count, peak = export_twice(database, batch_id, file_format, tmp_path)

    assert count == VECTORS
    assert peak < MAX_PEAK_BYTES
