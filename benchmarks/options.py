"""Command-line options shared by the benchmarks."""

import argparse
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import corpus


def parse_options(description: str | None, *, items: int, rounds: int = 3, distribution: bool = False) -> Namespace:
    """Parse `items`, `rounds` and, for some benchmarks, a `distribution` of lengths."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--items", type=int, default=items, help="inputs in one run")
    parser.add_argument("--rounds", type=int, default=rounds, help="runs of each contestant")
    if distribution:
        names = sorted(corpus.DISTRIBUTIONS)
        parser.add_argument("--lengths", choices=names, default="mixed", help="how the texts' lengths are distributed")
    return parser.parse_args()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder for logs and settings."""
    with tempfile.TemporaryDirectory(prefix="batchmill-bench-") as folder:
        yield Path(folder)
