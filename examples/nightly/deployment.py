"""The example's deployment: a folder with settings, a simulated clock, and the `batchmill` commands."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CLOCK_SPEED = 10  # simulated seconds in one real second
WAIT_TIMEOUT_SECONDS = 120.0


class Deployment:
    """A Batchmill installation in one folder, whose processes end with this program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "up.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMILL_")}
        environment |= {"BATCHMILL_HOME": str(folder / "home"), "BATCHMILL_CONFIG": str(folder / "batchmill.toml")}
        self._environment = environment

    def set_clock(self, now: str, speed: int = 1) -> datetime:
        """Set the clock of processes started from now on; it begins at `now` and runs `speed` times as fast."""
        self._environment["BATCHMILL_SIMULATED_CLOCK"] = f"{now}@{datetime.now(UTC).isoformat()}*{speed}"
        return datetime.fromisoformat(now)

    def use_model(self, model: str) -> None:
        """Write the model's name into batchmill.toml; workers read it when they start."""
        settings = self.folder / "batchmill.toml"
        content = re.sub(r"^model = .*$", f'model = "{model}"', settings.read_text("utf-8"), flags=re.MULTILINE)
        settings.write_text(content, "utf-8")

    def run_until_done(self, schedule: str, scheduled_day: str, pipelines: Sequence[str] = ("tickets",)) -> None:
        """Run `batchmill up` until the run of a day (in UTC) has ended; the schedule decides on the work."""
        # With this option, `batchmill up` exits when this program does, even after a crash.
        command = self._batchmill_command("up", "--pipelines", ",".join(pipelines), "--no-serve", "--exit-with-parent")
        with (
            self._log.open("ab") as log,
            subprocess.Popen(
                command, **self._process_options, stdin=subprocess.PIPE, stdout=log, stderr=log
            ) as process,
        ):
            try:
                self._wait_until_done(process, schedule, scheduled_day)
            finally:
                process.communicate()  # closes its standard input, and waits

    def print_command(self, *command: str) -> None:
        """Print a command, and run it with its output shown."""
        print(f"\n$ batchmill {shlex.join(command)}", flush=True)
        subprocess.run(self._batchmill_command(*command), **self._process_options, check=True)

    def _wait_until_done(self, process: "subprocess.Popen[bytes]", schedule: str, scheduled_day: str) -> None:
        deadline = time.monotonic() + WAIT_TIMEOUT_SECONDS
        while not self._is_done(schedule, scheduled_day):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the run of {scheduled_day} did not end; see {self._log}")
            time.sleep(0.5)

    def _is_done(self, schedule: str, scheduled_day: str) -> bool:
        command = self._batchmill_command("schedule", "history", schedule, "--json")
        output = subprocess.run(command, **self._process_options, stdout=subprocess.PIPE, check=True).stdout
        return any(
            run["finished_at"] for run in json.loads(output)["data"] if run["scheduled_at"].startswith(scheduled_day)
        )

    def _batchmill_command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "batchmill", *arguments]

    @property
    def _process_options(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": self._environment}
