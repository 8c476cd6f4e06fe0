"""The command `down`: stops the `batchmill up` of this home, and nothing else."""

import os
import signal
import time

import click

from models.errors import UsageError, WaitTimeout
from models.privacy import terminal
from models.processes import holders, home_lock
from models.processes.holders import HolderId, PidNamespace
from models.settings import Settings

POLL_SECONDS = 0.05
GROUPS = 2  # workers, then Valkey; each has grace_seconds to end before it is killed
MARGIN_SECONDS = 10.0


@click.command(short_help="Stop what `batchmill up` started.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait for the end; unset: twice grace_seconds, and 10 more.",
)
def down(timeout: float | None) -> None:
    """Stop the `batchmill up` that runs in this home, with its workers and Valkey, and wait until they have ended.

    Workers finish their micro-batch within grace_seconds. Batches that are not done go on with the next
    `batchmill up`. A second `batchmill down` ends the workers at once.
    """
    settings = Settings.load()
    home = settings.home_path
    holder = home_lock.find_holder(home)
    if holder is None:
        terminal.print_notice(f"no `batchmill up` runs in {home}; nothing was stopped")
        return
    if holder.pid_namespace != PidNamespace.current():
        raise UsageError(
            f"the `batchmill up` in {home} runs on {holder.pid_namespace.host} (pid {holder.pid}), in another machine "
            "or container; run `batchmill down` there"
        )
    terminal.print_notice(f"stopping `batchmill up` (pid {holder.pid}) in {home}")
    started = time.monotonic()
    _terminate(holder)
    _wait_for_end(holder, GROUPS * settings.grace_seconds + MARGIN_SECONDS if timeout is None else timeout)
    terminal.print_notice(f"stopped after {time.monotonic() - started:.1f} s: its processes have ended")


def _terminate(holder: HolderId) -> None:
    try:
        os.kill(holder.pid, signal.SIGTERM)
        os.kill(holder.pid, signal.SIGCONT)  # a process that was paused handles the first signal now
    except ProcessLookupError:
        pass
    except PermissionError:
        raise UsageError(f"pid {holder.pid} belongs to another user; run `batchmill down` as that user") from None


def _wait_for_end(holder: HolderId, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not holders.is_holder_gone(str(holder)):
        if time.monotonic() > deadline:
            raise WaitTimeout(
                f"`batchmill up` (pid {holder.pid}) has not ended in {timeout_seconds:g} s and still stops; a second "
                "`batchmill down` ends its workers at once"
            )
        time.sleep(POLL_SECONDS)
