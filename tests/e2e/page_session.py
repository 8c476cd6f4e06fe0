"""Runs the commands and programs of a document in a sandbox, in their order, and compares what they print.

A document is written for readers, so its output is compared loosely: `…` stands for any text, a line with nothing else
for any lines, and an id of a batch for the id that the run got in its place. A block after `<!-- file: NAME -->` is a
file.
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests import servers

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LAST_COMMENTS = re.compile(r"(?:^# .*\n)+\Z", re.MULTILINE)  # of a program: what it prints
BATCH_ID = re.compile(r"batch_[0-9a-z]{20}")
NOT_RUN = ("pip ", "make ")  # the environment of the tests has everything; tests/unit/test_packaging.py reads Makefile
DOCUMENTED_PORT = "127.0.0.1:8000"
END_MARK = "--end-of-command--"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document, with the comment before it."""

    language: str
    text: str
    note: str


def read_blocks(page: Path) -> list[Block]:
    """All blocks of a document, in their order."""
    return [
        Block(found["language"], found["text"], found["note"] or "")
        for found in BLOCK.finditer(page.read_text("utf-8"))
    ]


def split_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block, with the lines that it should print."""
    command, expected = "", []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
            while command.endswith("\\"):
                command = f"{command}\n{next(lines)}"
        else:
            expected.append(line)
    if command:
        yield command, expected


class PageSession:
    """A shell in an empty folder, and the ids of the document with those of the run."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._home, self._ids = folder, folder / "home", dict[str, str]()
        tools = folder / "bin"
        tools.mkdir()
        for name, arguments in (("batchmill", f"-P {ROOT / 'batchmill.py'}"), ("python", "")):
            (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            (tools / name).chmod(0o700)
        self._port = servers.free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMILL_")}
        environment |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "BATCHMILL_HOME": str(self._home),
            "BATCHMILL_SERVE_PORT": str(self._port),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
        }
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the shell and everything that it started."""
        os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.communicate()

    def run(self, block: Block) -> None:
        """Do what a reader would do with a block."""
        kind, _, name = block.note.partition(": ")
        if kind == "file":
            (self._folder / name).write_text(block.text, "utf-8")
        elif block.language == "console":
            for command, expected in split_commands(block.text):
                if not command.startswith(NOT_RUN):
                    self._assert_prints(command, expected)
        elif block.language == "python":
            (self._folder / "block.py").write_text(self._localize(block.text), "utf-8")
            shown = LAST_COMMENTS.search(block.text)
            self._assert_prints("python block.py", [line[2:] for line in shown[0].splitlines()] if shown else [])
        elif block.language == "sql":
            self._query(self._localize(block.text))

    def _assert_prints(self, command: str, expected: list[str]) -> None:
        output = self._start_up(command) if command.startswith("batchmill up") else self._execute(command)
        match = re.fullmatch(self._pattern(expected), output, re.DOTALL)
        assert match or not expected, f"$ {command}\n{output}\ninstead of\n" + "\n".join(expected)
        for name, value in (match.groupdict() if match else {}).items():
            self._ids[name] = value

    def _execute(self, command: str) -> str:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{self._localize(command)}\necho; echo {END_MARK}$?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(END_MARK):
                status = int(line.removeprefix(END_MARK))
                assert status == 0, f"$ {command}\n{''.join(lines)}\nexit status {status}"
                return "".join(lines).rstrip("\n") + "\n" if "".join(lines).strip() else ""
            lines.append(line)
        raise AssertionError(f"the shell ended in $ {command}\n{''.join(lines)}")

    def _start_up(self, command: str) -> str:
        """Start Batchmill in the background and wait until a worker has its model."""
        self._execute(f"{command} > up.log 2>&1 &")
        deadline = time.monotonic() + servers.WAIT_TIMEOUT_SECONDS
        log = self._folder / "up.log"
        while not (log.exists() and "model.loaded" in log.read_text("utf-8")):
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.1)
        return log.read_text("utf-8")

    def _query(self, statements: str) -> None:
        with closing(sqlite3.connect(self._home / "batchmill.db")) as connection:
            for statement in filter(str.strip, statements.split(";")):
                assert connection.execute(statement).fetchall(), statement

    def _localize(self, text: str) -> str:
        """The text with this run's ids and port in place of those of the document."""
        local = BATCH_ID.sub(lambda found: self._ids.get(found[0], found[0]), text)
        return local.replace(DOCUMENTED_PORT, f"127.0.0.1:{self._port}")

    def _pattern(self, expected: list[str]) -> str:
        """The regular expression of the expected lines; an id that is new gets a group under its documented name."""
        pattern = "".join("(?:.*\n)?" if line == "…" else f"{self._line_pattern(line)} *\n" for line in expected)
        new: set[str] = set()

        def replace(found: re.Match[str]) -> str:
            name = found[0]
            if name in self._ids:
                return self._ids[name]
            is_known, _ = name in new, new.add(name)
            return f"(?P={name})" if is_known else f"(?P<{name}>batch_[0-9a-z]{{20}})"

        return BATCH_ID.sub(replace, pattern)

    def _line_pattern(self, line: str) -> str:
        text = line.replace("sqlite:////home/me/…/home", "sqlite:////home/me/.batchmill")
        text = text.replace("sqlite:////home/me/.batchmill", f"sqlite:///{self._home}")
        text = re.sub(r"\bpid \d+|[\d,]+(?= jobs/s)", "…", text).replace(DOCUMENTED_PORT, f"127.0.0.1:{self._port}")
        return re.sub(r"(?:\\ )+", " +", re.escape(text)).replace("…", "[^\n]*")
