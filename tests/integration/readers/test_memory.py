"""How much memory reading takes: the peak of a process of its own, over sources that are small only where they lie."""

import gzip
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchmill import Client
from tests import fake_worker
from tests.servers import WAIT_TIMEOUT_SECONDS

pyarrow: Any = pytest.importorskip("pyarrow")
pq: Any = importlib.import_module("pyarrow.parquet")

MEGABYTE = 10**6
# Lengths in characters: this pipeline is not at hand, so that nothing is tokenized.
ARGUMENTS = ["submit", "--pipeline", "sentiment-analysis", "--on-invalid", "fail-row", "--dry-run", "--json"]


def parquet(texts: Any, **how: Any) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pyarrow.table({"text": texts()}), path, **how)


def lines(make_lines: Callable[[], list[bytes]]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"\n".join(make_lines()) + b"\n")


def packed(path: Path) -> None:
    """What claims to be Parquet, and is 300 MB of nothing."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"PAR1")
        for _ in range(300):
            file.write(b"\0" * MEGABYTE)


def dictionary() -> Any:
    """A hundred bytes a gigabyte."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000, pyarrow.int32()), ["a" * 500_000])


def long_texts() -> list[str]:
    return [f"{number:06} is a text " * 50_000 for number in range(200)]


# Each with the peak that it may have, in megabytes.
SOURCES: dict[str, tuple[int, Callable[[Path], object]]] = {
    "long.parquet": (300, parquet(long_texts, compression="snappy")),
    "plain.parquet": (300, parquet(long_texts, compression="none", use_dictionary=False)),
    "dictionary.parquet": (300, parquet(dictionary, compression="zstd")),
    "one.parquet": (300, parquet(lambda: ["a" * 400 * MEGABYTE, "b"], compression="zstd")),
    "zeros.parquet.gz": (300, packed),
    "keys.jsonl": (
        120,
        lines(lambda: [b'{"text": "a", ' + b",".join(b'"%d": 1' % n for n in range(10**6)) + b"}", b'"b"']),
    ),
    "wide.jsonl": (120, lines(lambda: [json.dumps("\U0001f600" + "a" * 10**7, ensure_ascii=False).encode(), b'"b"'])),
    "cells.csv": (120, lines(lambda: [b"text", b"," * 15 * MEGABYTE, b"a"])),
    "open.csv": (120, lines(lambda: [b"text", b'"a', (b"a line of words " * 8 + b"\n") * 160_000])),
}


# Asked by the process itself: what it was forked from may have been larger.
COMMAND = """
import re, sys
from pathlib import Path
import batchmill
try:
    batchmill.main()
finally:
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its own peak")
@pytest.mark.parametrize("name", SOURCES)
def test_the_peak_of_reading(tmp_path: Path, name: str) -> None:
    most, write = SOURCES[name]
    write(tmp_path / name)

    assert dry_run(tmp_path, name).peak_bytes < most * MEGABYTE


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its own peak")
def test_the_peak_of_reading_results(tmp_path: Path) -> None:
    with Client(home=tmp_path / "home") as client:
        batch = client.submit("sample-sentiment-analysis", ["a"] * 100)
        outputs = [(position, {"text": f"{position:06} " + "a" * (MEGABYTE - 100)}) for position in range(100)]
        fake_worker.write_results(client.database, batch.id, outputs)
        fake_worker.end_batch(client.database, batch.id)

    done = dry_run(tmp_path, "--from", batch.id, "--input", "text=output.text")

    assert json.loads(done.report)["rows"] == 100
    assert done.peak_bytes < 120 * MEGABYTE


class DryRun(NamedTuple):
    """What a dry run over a source printed, and its peak."""

    report: str
    peak_bytes: int


def dry_run(tmp_path: Path, *source: str) -> DryRun:
    """Run it in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BATCHMILL_")}

    done = subprocess.run(
        [sys.executable, "-P", "-c", COMMAND, *ARGUMENTS, *source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment | {"BATCHMILL_HOME": str(tmp_path / "home")},
        timeout=WAIT_TIMEOUT_SECONDS,
        check=False,
    )

    assert done.returncode in (0, 2), done.stderr
    assert "unexpected" not in done.stderr
    return DryRun(done.stdout, int(done.stderr.split()[-1]) * 1000)
