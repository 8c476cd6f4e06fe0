"""The demo's sandbox: its home folder, `batchmill up` running in it, and commands that continue from there."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models import packages
from models.errors import BatchmillError
from models.privacy import private_files, terminal

MAX_LOG_LINES = 15
STOP_TIMEOUT_SECONDS = 60.0
CONFIG_TEXT = "# Settings of the demo in this folder; see `Settings` in models/settings for what can be set.\n"


@contextmanager
def isolated_settings(home: Path) -> Iterator[None]:
    """Restrict settings to the demo's home, so that it never writes to a database named by the environment."""
    private_files.make_folder(home)
    config = home / "batchmill.toml"
    if not config.exists():
        config.write_text(CONFIG_TEXT)
    replacements = {"BATCHMILL_HOME": str(home), "BATCHMILL_CONFIG": str(config)}
    removals = ("BATCHMILL_DATABASE_URL", "BATCHMILL_REDIS_URL")
    old_values = {name: os.environ.pop(name, None) for name in (*replacements, *removals)}
    os.environ.update(replacements)
    try:
        yield
    finally:
        for name, value in old_values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def run_up(log_path: Path, pipelines: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Run `batchmill up` as a child process for a block; yields a check that raises when it has exited."""
    up = ("up", "--pipelines", ",".join(pipelines), "--no-serve", "--exit-with-parent")
    command = [sys.executable, "-P", "-m", "batchmill", *up]
    terminal.print_notice(f"starting: batchmill up\n     log: {relative_path(log_path)}")
    with os.fdopen(private_files.open_file(log_path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=_child_environment())

    def check_running() -> None:
        if process.poll() is not None:
            last_lines = log_path.read_text("utf-8", errors="replace").splitlines()[-MAX_LOG_LINES:] or ["nothing"]
            lines = "".join(f"\n  {terminal.to_printable(line)}" for line in last_lines)
            raise BatchmillError(
                f"`batchmill up` ended with {process.returncode}; the last lines of {relative_path(log_path)}:{lines}"
            )

    try:
        yield check_running
    finally:
        terminal.print_notice("stopping the worker and Valkey")
        _stop_process(process)


def batchmill_command() -> str:
    """Return the command that runs Batchmill from this folder."""
    if shutil.which("batchmill"):
        return "batchmill"
    script = Path(sys.argv[0])
    return str(relative_path(script.absolute())) if script.name == "batchmill" else f"{sys.executable} -m batchmill"


def sqlite_command(file: Path) -> str:
    """Return the command that runs a query on a SQLite file; empty if there is none."""
    if shutil.which("sqlite3"):
        return f"sqlite3 {file} "
    return f"{sys.executable} -m sqlite3 {file} " if sys.version_info >= (3, 12) else ""


def relative_path(path: Path) -> Path:
    """Return the path relative to the current folder if it lies in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _child_environment() -> dict[str, str]:
    """Return an environment in which the child imports our packages from the same folder, installed or not."""
    folder = packages.import_folder()
    if folder == Path(sysconfig.get_path("purelib")):
        return dict(os.environ)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
