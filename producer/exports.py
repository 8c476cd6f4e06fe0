"""Exports: a batch's results as a JSON lines or CSV file, whole or not at all."""

import csv
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from models.errors import UsageError
from producer.results import ResultRow, iso

# What makes a spreadsheet take a cell for a formula; a plain number is none.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")

BEFORE = ("position", "custom_id")
AFTER = (
    "error_code", "error_message", "truncated", "model", "revision", "dtype", "device", "attempts", "finished_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sheet:
    """The columns of a batch's CSV: a flat output gets a column for each of its keys, any other one with JSON."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...] | None

    @classmethod
    def of(cls, inputs: Iterable[str], example: Any) -> "Sheet":
        """The columns for a task's input fields, and for outputs like this one."""
        flat = isinstance(example, dict) and not any(isinstance(value, dict | list) for value in example.values())
        return cls(tuple(inputs), tuple(example) if flat else None)

    @property
    def header(self) -> list[str]:
        """The names; an output's key that is taken already is called `output_…`."""
        taken = {*BEFORE, *self.inputs, "status", *AFTER}
        outputs = [f"output_{name}" if name in taken else name for name in self.outputs or ("output",)]
        return [*BEFORE, *self.inputs, "status", *outputs, *AFTER]

    def cells(self, row: ResultRow) -> list[Any]:
        """One row, in the header's order, safe to be opened in a spreadsheet."""
        after = (
            row.error_code, row.error_message, row.truncated, row.model, row.revision, row.dtype, row.device,
            row.attempts, iso(row.finished_at),
        )  # fmt: skip
        inputs = (row.input.get(name) for name in self.inputs)
        return [
            guarded(cell)
            for cell in (row.position, row.custom_id, *inputs, row.status.value, *self._output(row), *after)
        ]

    def _output(self, row: ResultRow) -> list[Any]:
        if self.outputs is None:
            return [None if row.output is None else json.dumps(row.output, ensure_ascii=False)]
        output = row.output if row.output is not None else {}
        if not isinstance(output, dict) or not output.keys() <= set(self.outputs):
            raise UsageError(f"the output at position {row.position} has other fields than the first; write .jsonl")
        return [output.get(name) for name in self.outputs]


def guarded(cell: object) -> object:
    """The cell, with a `'` before text that a spreadsheet would run."""
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) and not PLAIN_NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def jsonl_line(row: ResultRow, *, ascii_only: bool = False) -> str:
    """One row as a line of JSON, with its newline."""
    return json.dumps(row.as_dict(), ensure_ascii=ascii_only) + "\n"


def write_jsonl(path: Path, rows: Iterable[ResultRow]) -> int:
    """Write JSON lines; returns how many."""
    return _write(path, rows, lambda file: lambda row: file.write(jsonl_line(row)))


def write_csv(path: Path, rows: Iterable[ResultRow], sheet: Sheet) -> int:
    """Write CSV with a header; returns how many rows follow it."""

    def start(file: TextIO) -> Callable[[ResultRow], object]:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(sheet.header)
        return lambda row: writer.writerow(sheet.cells(row))

    return _write(path, rows, start)


def check_target(path: Path) -> str:
    """What a path asks for, `jsonl` or `csv`; raises UsageError when it can't be written."""
    kind = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path} does not say by its name what to write; call it .jsonl or .csv")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path} is not a regular file; leave -o out to write to standard output")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"there is no folder {path.resolve().parent}; make it first")
    return kind


def _write(path: Path, rows: Iterable[ResultRow], start: Callable[[TextIO], Callable[[ResultRow], object]]) -> int:
    count = 0
    with _replacing(path) as file:
        write = start(file)
        for row in rows:
            write(row)
            count += 1
    return count


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the path's place once it is whole and on disk; before, whatever was there stays."""
    path = path.resolve()  # a link stays a link
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
