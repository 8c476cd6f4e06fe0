"""`batchmill tasks check` tries a task in a process by itself, and ends it if it hangs."""

import json
import os
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from models import packages
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import Settings
from worker.task_checks import target
from worker.task_checks.report import STACKS_SIGNAL, CheckResult

READ_BYTES = 65_536
CHECK_PROCESS = ["-m", packages.import_name("worker.task_checks.process")]
STARTING = "loading"
STACKS_SECONDS = 0.5


@click.command("tasks check", short_help="Try a task with its model, and say what to change.")
@click.argument("name")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="How long one check may take; the process is ended then.",
)
@click.option(
    "--inputs",
    "max_inputs",
    default=2_000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="How many inputs the check of memory runs.",
)
@click.option(
    "--seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="How long the check of memory runs at most.",
)
@terminal.json_option
def check(name: str, device: str, timeout: float, max_inputs: int, seconds: float, as_json: bool) -> None:
    """Try NAME, a pipeline of the catalogue or a task that has one, on variants of its example input.

    Other rows, their order, retries, duplicates, parameters and bad inputs must change no answer, and memory must not
    grow. Needs no database and no Redis. The pipeline's guards and prompts are left out. Exits with 1 if a check fails.
    """
    target.find_pipeline(Catalogue.load(Settings.load()), name)
    results = []
    for result in run_checks([name, device, str(max_inputs), str(seconds)], timeout):
        results.append(result)
        if not as_json:
            click.echo(f"{result.outcome:<7}  {result.check:<13}  {terminal.to_printable(result.message)}")
    has_failed = any(result.outcome == "failed" for result in results)
    if as_json:
        checks = [result.as_dict() for result in results]
        terminal.echo_json({"object": "task_check", "name": name, "ok": not has_failed, "checks": checks})
    if has_failed:
        raise click.exceptions.Exit(1)


def run_checks(arguments: list[str], timeout: float) -> Iterator[CheckResult]:
    """Yield the results of the process's checks; a check that hangs or ends the process is the last one."""
    current = STARTING
    with _start_process(arguments) as process:
        try:
            for message in _read_messages(process, timeout):
                if "begin" in message:
                    current = message["begin"]
                elif "check" in message:
                    yield CheckResult(**message)
        except TimeoutError:
            _write_stacks(process)
            advice = "mend what hangs (its stack is on standard error), or raise --timeout"
            yield CheckResult(current, "failed", f"it took longer than {timeout:g} s and was ended; {advice}")
            return
        status = process.wait()
    if status != 0:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        yield CheckResult(current, "failed", f"its process ended {how}; what it wrote last is on standard error")


def _write_stacks(process: "subprocess.Popen[bytes]") -> None:
    """Have the process write where each of its threads is."""
    process.send_signal(STACKS_SIGNAL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STACKS_SECONDS)


def _read_messages(process: "subprocess.Popen[bytes]", timeout: float) -> Iterator[dict[str, Any]]:
    """Yield each line of the process. Raises TimeoutError if there is none for `timeout` seconds."""
    assert process.stdout is not None
    descriptor, pending = process.stdout.fileno(), b""
    deadline = time.monotonic() + timeout
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        chunk = os.read(descriptor, READ_BYTES)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)
        deadline = time.monotonic() + timeout


@contextmanager
def _start_process(arguments: list[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run the checks in a process that is ended with the block."""
    command = [sys.executable, "-P", *CHECK_PROCESS, *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    """An environment in which the process imports our packages from the same folder, installed or not."""
    folder = packages.import_folder()
    if str(folder) == sysconfig.get_path("purelib"):
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}
