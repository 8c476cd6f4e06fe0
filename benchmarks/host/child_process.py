"""A contestant in a separate process, which answers lines with lines of JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import THREADS


class AnswerStream:
    """The answers of a child process; whatever else it prints goes to its log from here on."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def write(self, answer: Mapping[str, Any]) -> None:
        """Write an answer as a line."""
        self._stream.write(json.dumps(answer) + "\n")
        self._stream.flush()


class ChildProcess:
    """A process that runs a module; `paths` are folders of packages, of which the first has Batchmill's files."""

    def __init__(self, module: str, paths: Sequence[Path], arguments: Mapping[str, Any], log: Path) -> None:
        names = [name for name in os.environ if name.startswith("BATCHMILL_")]
        environment = {name: value for name, value in os.environ.items() if name not in names}
        environment |= {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": str(THREADS),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(arguments)],
                cwd=log.parent,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def read(self) -> dict[str, Any]:
        """Return the next answer; raises RuntimeError with the end of the log if the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace")[-1500:]
            raise RuntimeError(f"the process of {self._log.parent.name} has ended: {tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, line: str) -> dict[str, Any]:
        """Write a line and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End the process by closing its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def run_child(module: str, paths: Sequence[Path], arguments: Mapping[str, Any], log: Path) -> Iterator[ChildProcess]:
    """Yield a child process that is ended afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    child = ChildProcess(module, paths, arguments, log)
    try:
        yield child
    finally:
        child.close()
