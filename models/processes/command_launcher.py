"""A command launcher runs one command of ours at a time in a child process, which ends with its parent.

A worker never reads a source and a server never reads a file itself: that would compete with what they are there for.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from models.backoff import max_backoff_seconds
from models.settings import Settings

EXIT_NOTHING_DUE = 3  # exit status of a child that found nothing to do
MAX_PAUSE_SECONDS = 15.0

# Settings that a process may have from its caller, and not from the environment.
PASSED_SETTINGS = ("database_url", "redis_url", "file_store")


class CommandLauncher:
    """Starts a command, and after a failure or for lack of work again with a backoff.

    words: the command's, such as ("schedule", "tick"); it must know --exit-with-parent
    base_seconds: the first pause
    max_idle_seconds: the longest pause after a child that found nothing to do
    """

    def __init__(
        self,
        settings: Settings,
        words: Sequence[str],
        base_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        max_idle_seconds: float = MAX_PAUSE_SECONDS,
    ) -> None:
        self._settings = settings
        self._words = tuple(words)
        self._base_seconds = base_seconds
        self._monotonic = monotonic
        self._max_idle_seconds = max_idle_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._failed_starts = 0
        self._next_start_at = 0.0
        self._failed_status: int | None = None

    def is_running(self) -> bool:
        """Whether a child was started whose end is not known yet."""
        return self._process is not None

    def is_unfinished(self) -> bool:
        """Whether a child runs, or one has failed and nobody has taken its exit status."""
        return self._process is not None or self._failed_status is not None

    def can_run(self) -> bool:
        """Whether a child runs or can be started; False in the pause after one, when another process may have it."""
        return self.is_ready() or self.is_running()

    def is_ready(self) -> bool:
        """Whether no child runs, and the pause after the last one is over."""
        return not self._is_busy() and self._monotonic() >= self._next_start_at

    def forget_failures(self) -> None:
        """Make the next pause the first one: nothing is due any more."""
        self._failed_starts = 0

    def start(self, *options: str) -> float | None:
        """Start a child; returns the seconds until the next try if the system refuses it, else None."""
        try:
            self._process = self._spawn(options)
        except OSError:  # too many processes or open files
            return self._back_off()
        return None

    def take_failure(self) -> int | None:
        """The exit status of the last child if it failed; None if it did not, and from the second call on."""
        status, self._failed_status = self._failed_status, None
        return status

    def stop(self) -> None:
        """End the child, as the end of this process does."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, timeout_seconds: float) -> None:
        """Wait for the end of a child that was stopped; one that goes on is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _is_busy(self) -> bool:
        """Whether a child is running; after one without success the next is delayed, with backoff.

        For example, a pipeline is missing from this machine's catalogue, and other machines may have it.
        """
        if self._process is None:
            return False
        if (status := self._process.poll()) is None:
            return True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        if status not in (0, EXIT_NOTHING_DUE):
            self._failed_status = status  # its own messages are in this log already
        if status == 0:
            self._failed_starts, self._next_start_at = 0, self._monotonic()
        else:
            self._back_off(self._max_idle_seconds if status == EXIT_NOTHING_DUE else MAX_PAUSE_SECONDS)
        return False

    def _back_off(self, max_seconds: float = MAX_PAUSE_SECONDS) -> float:
        self._failed_starts += 1
        longest = max(max_seconds, self._base_seconds)
        pause = max_backoff_seconds(self._failed_starts, self._base_seconds, longest)
        self._next_start_at = self._monotonic() + pause
        return pause

    def _spawn(self, options: Sequence[str]) -> "subprocess.Popen[bytes]":
        values = {name: getattr(self._settings, name) for name in PASSED_SETTINGS} | {"home": self._settings.home_path}
        variables = {f"BATCHMILL_{name.upper()}": str(value) for name, value in values.items() if value is not None}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "batchmill", *self._words, "--exit-with-parent", *options],
            stdin=subprocess.PIPE,  # it closes when this process ends, even by SIGKILL, and the child then ends too
            stdout=subprocess.DEVNULL,
            env={**os.environ, **variables},
            start_new_session=True,  # Ctrl-C must reach only this process
        )
