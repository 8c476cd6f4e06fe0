"""Data sets of the Hub as sources, read in processes of their own.

huggingface_hub reads the server's address when it is imported.
"""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.hub_server import GATED, FakeHub, hub_server
from tests.servers import WAIT_TIMEOUT_SECONDS

DATA_SET = "made/tickets"
REPOSITORY = f"datasets/{DATA_SET}"
TOKEN = "hf_canary0123456789"

READ = """
import json, sys
from models import tasks
from models.errors import BatchmillError
from producer import readers
from producer.readers.files.access import Access
from producer.readers.column_mapping import ColumnMapping
columns, access = ColumnMapping.for_task(tasks.find_spec("sentiment-analysis")), Access(schemes=frozenset({"hf"}))
for url in sys.argv[1:]:
    try:
        with readers.open_source(url, columns, access=access) as source:
            print(json.dumps([row.raw_input["text"] for row in source.rows]))
    except BatchmillError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with hub_server() as server:
        yield server


def commit(hub: FakeHub, folder: Path, *texts: str) -> str:
    """Commit a data set that has these texts in each format."""
    rows = [{"text": text} for text in texts]
    (folder / "data").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "data" / "a.jsonl").write_bytes(lines)
    (folder / "data" / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "c.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    pyarrow.parquet.write_table(pa.table({"text": list(texts)}), folder / "d.parquet")
    return hub.add_commit(REPOSITORY, folder)


def read(hub: FakeHub, home: Path, *paths: str, **environment: str) -> list[Any]:
    """Return for each path of the data set its texts, or its error; a whole URL is taken as it is."""
    command = [path if "://" in path else f"hf://{REPOSITORY}{path}" for path in paths]
    settings = {"HF_ENDPOINT": hub.base_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", READ, *command],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_format_is_read_at_a_branch_and_at_a_commit(hub: FakeHub, tmp_path: Path) -> None:
    first = commit(hub, tmp_path / "first", "old")
    commit(hub, tmp_path / "second", "late", "broken")

    names = ("/data/a.jsonl", "/data/*.jsonl*", "@main/c.csv", "/d.parquet", f"@{first}/d.parquet")
    texts = read(hub, tmp_path / "home", *names, HF_TOKEN=TOKEN)

    assert texts == [["late", "broken"], ["late", "broken"] * 2, ["late", "broken"], ["late", "broken"], ["old"]]
    tokens = {headers.get("authorization") for _, path, headers in hub.requests if DATA_SET in path}
    assert tokens == {f"Bearer {TOKEN}"}


def test_a_file_is_read_from_the_commit_that_its_branch_had_when_it_was_opened(hub: FakeHub, tmp_path: Path) -> None:
    now = commit(hub, tmp_path / "first", "late")

    read(hub, tmp_path / "home", "@main/data/a.jsonl")

    assert {path for _, path, _ in hub.requests if "/resolve/" in path} == {f"/{REPOSITORY}/resolve/{now}/data/a.jsonl"}


def test_unusual_names_are_read(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    for name in ("a#1.jsonl", "b c.jsonl"):
        (folder / name).write_text(json.dumps({"text": name}) + "\n")
    hub.add_commit(REPOSITORY, folder)

    texts = read(hub, tmp_path / "home", "/**/*.jsonl", "/a#1.jsonl", f"HF://{REPOSITORY}/b c.jsonl")

    assert texts == [["a#1.jsonl", "b c.jsonl"], ["a#1.jsonl"], ["b c.jsonl"]]


def test_what_the_hub_lacks_is_named_with_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    commit(hub, tmp_path / "first", "late")

    missing = read(
        hub,
        tmp_path / "home",
        "/other.jsonl",
        "@v9/c.csv",
        "hf://datasets/made/none/c.csv",
        "/none/*.csv",
        "hf://a.csv",
        "hf://buckets/made/none/c.csv",
    )

    assert [problem["error"] for problem in missing] == ["MissingSource"] * 6
    assert [problem["message"] for problem in missing] == [
        "there is no file hf://datasets/made/tickets/other.jsonl",
        "dataset made/tickets has no such revision: hf://datasets/made/tickets@v9/c.csv; "
        "name a branch, a tag or a commit behind @",
        "the Hub has no dataset made/none, or shows it to others only; check its name, and HF_TOKEN",
        "no file matches hf://datasets/made/tickets/none/*.csv",
        "hf://a.csv names no file of the Hub; write it such as hf://datasets/USER/NAME/train.parquet",
        "the Hub has no hf://buckets/made/none/c.csv, or shows it to others only; check its name, and HF_TOKEN",
    ]


def test_terms_that_were_not_accepted_are_said(hub: FakeHub, tmp_path: Path) -> None:
    commit(hub, tmp_path / "first", "late")
    hub.error_rules.append(("/resolve/", 403, GATED))

    [problem] = read(hub, tmp_path / "home", "/c.csv", HF_TOKEN=TOKEN)

    assert "accept the terms of dataset made/tickets there, and set HF_TOKEN here" in problem["message"]


def test_a_hub_that_can_not_be_reached_is_said(hub: FakeHub, tmp_path: Path) -> None:
    unreachable = "http://127.0.0.1:9"

    [problem] = read(hub, tmp_path / "home", "/c.csv", HF_ENDPOINT=unreachable)
    [offline] = read(hub, tmp_path / "home", "/c.csv", HF_HUB_OFFLINE="1")

    for message in (problem["message"], offline["message"]):
        assert "the Hub can't be reached; check the network, HF_ENDPOINT and HF_HUB_OFFLINE" in message


def test_a_machine_without_huggingface_hub_is_told_what_to_install(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('not here')")

    [problem] = read(hub, tmp_path / "home", "/c.csv", PYTHONPATH=f"{tmp_path}:{Path.cwd()}")

    assert "for which huggingface_hub is needed; in the checkout, run: pip install" in problem["message"]
