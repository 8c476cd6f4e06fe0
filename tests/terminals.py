"""Commands on a pseudo-terminal, as people see them."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[1]


def output_on_terminal(
    arguments: list[str], stream: Literal["stdout", "stderr"], *, exit_code: int = 0, **environment: str
) -> str:
    """What a command writes to one stream, when that is a terminal and the other is not; it must end as given."""
    ours, theirs = pty.openpty()
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: theirs}
    command = [sys.executable, "-m", "batchmill", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, **streams) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # Linux reports so that the other end is closed
                break
            if not chunk:
                break
            output += chunk
    os.close(ours)
    assert process.returncode == exit_code
    return output.decode()
