"""The supervisor runs one process per child spec, restarts it with backoff, and stops it on shutdown."""

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

import structlog

from models.errors import SchemaMismatch, UsageError
from models.lifecycle import seats
from worker import process_memory
from worker.exit_status import SCHEMA_OUTDATED

log = structlog.get_logger(__name__)

FIRST_RESTART_DELAY_SECONDS = 1.0
MAX_RESTART_DELAY_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0  # a crash after that long counts as the first one
POLL_SECONDS = 0.2

# OpenMP's threads spin while they wait for each other. If the machine does other work too, such as our own claims and
# writes, spinning starves the threads waited for. A small forward pass took 240 ms with it and 5 ms without.
#
# transformers would ask the Hub to convert pickled weights; only existing safetensors are accepted.
#
# oneDNN compiles code for each shape of a matrix product, and both it and torch keep the last 1,024, up to 3 MB each.
# Our layers round numbers of tokens to few sizes (decision 0029), so 64 hold the shapes of the passes that alternate.
# With exact sizes, 16 cost up to 12 % more processor time, and with 1,024 the bundled classifier grew by 0.6 GB.
#
# cuBLAS may sum in another order from one run to the next unless it has a workspace of a fixed size (NVIDIA's manual,
# "Results reproducibility"). Pipelines with `deterministic` rest on that; eight buffers of 4 MiB cost nothing else.
#
# By default the C library returns the outputs of each large layer to the machine and fetches the same memory again for
# the next. That was 5,000 page faults for a pass of 512 tokens through DistilBERT-base, 3 to 5 % of its processor time.
# With blocks of up to 32 MB kept, and up to 64 MB of free memory in each arena, there were 7.
CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "LRU_CACHE_CAPACITY": "64",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child process to keep running: a Python module of this package and its arguments.

    reports_exit: whether each start passes a new worker id as the last argument, and its exit is reported.
    environment: variables that the child gets beside ours.
    descriptors: open files that the child inherits, under the same numbers.
    may_be_refused: whether exit status 2, an invalid request, is final: the others go on without the child.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    reports_exit: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()
    may_be_refused: bool = False


@dataclass(frozen=True, slots=True)
class ChildExit:
    """The end of a child that has a worker id.

    exit_status: as `subprocess` reports it, negative for a signal.
    oom_suspected: whether the kernel has killed a process for memory since the start.
    """

    worker_id: str
    exit_status: int
    oom_suspected: bool


OnChildExit = Callable[[ChildExit], object]


def ignore_exit(_child_exit: ChildExit) -> None:
    """Do nothing; the default of `on_child_exit`."""


def restart_delay(consecutive_crashes: int) -> float:
    """Return the seconds to wait before a restart after so many consecutive crashes: 0, 1, 2, 4 … 30."""
    if consecutive_crashes == 0:
        return 0.0
    doublings = min(max(0, consecutive_crashes - 1), 16)  # prevents an overflow when a child crashes for hours
    return min(MAX_RESTART_DELAY_SECONDS, FIRST_RESTART_DELAY_SECONDS * 2.0**doublings)


@dataclass
class Child:
    """The process of one child spec and its restart history."""

    spec: ChildSpec
    on_exit: OnChildExit = ignore_exit
    worker_name: str = field(default_factory=lambda: f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}")
    start_count: int = 0
    process: subprocess.Popen[bytes] | None = None
    worker_id: str = ""
    oom_kills_at_start: int = 0
    started_at: float = 0.0
    consecutive_crashes: int = 0
    next_start_at: float = field(default=0.0)
    schema_outdated: bool = False

    def run_once(self, now: float) -> None:
        """Start the process when it is due, and handle its exit when it has ended."""
        if self.process is None:
            if now >= self.next_start_at:
                self._start(now)
            return
        status = self.process.poll()
        if status is None:
            return
        self.schema_outdated = status == SCHEMA_OUTDATED
        was_stopped = status == os.EX_OK or (status == -signal.SIGKILL and not self._oom_suspected)
        if was_stopped:
            self.consecutive_crashes = 0  # ended from outside: no fault that recurs at each start
        else:
            self.consecutive_crashes = (
                1 if now - self.started_at >= HEALTHY_AFTER_SECONDS else self.consecutive_crashes + 1
            )
        pause = restart_delay(self.consecutive_crashes)
        if status == UsageError.exit_code and self.spec.may_be_refused:
            log.error(
                "child.refused", child=self.spec.name, reason="its last lines say why; the others go on without it"
            )
            pause = math.inf
            for descriptor in self.spec.descriptors:
                _stop_listening(descriptor)
        elif status == os.EX_OK:
            log.info("child.exited", child=self.spec.name, exit_status=status, restart_seconds=pause)
        else:
            log.warning("child.exited", child=self.spec.name, exit_status=status, restart_seconds=pause)
        self._handle_exit(status)
        self.next_start_at = now + pause

    def send_signal(self, signal_number: int = signal.SIGTERM) -> None:
        """Send the signal if the process is running."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal_number)

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until the process has ended, and kill it at the deadline, in seconds of the monotonic clock."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("child.killed", child=self.spec.name, reason="it did not end within grace_seconds")
            self.process.kill()
            self.process.wait()
        self._handle_exit(self.process.returncode)

    def _start(self, now: float) -> None:
        self.start_count += 1
        self.worker_id = seats.make_worker_id(self.worker_name, self.start_count) if self.spec.reports_exit else ""
        self.oom_kills_at_start = process_memory.oom_kill_count()
        self.process = subprocess.Popen(
            # -P: files in the current folder must not shadow our packages or dependencies.
            [
                sys.executable,
                "-P",
                "-m",
                self.spec.module,
                *self.spec.arguments,
                *([self.worker_id] if self.worker_id else []),
            ],
            stdin=subprocess.PIPE,  # closes when this process ends, even by SIGKILL; the child watches it
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the children in order
            pass_fds=self.spec.descriptors,
            env={**CHILD_ENVIRONMENT, **os.environ, **self.spec.environment},
        )
        self.started_at = now
        log.info("child.started", child=self.spec.name, child_pid=self.process.pid)

    def _handle_exit(self, exit_status: int) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None
        if self.worker_id:
            self.on_exit(ChildExit(self.worker_id, exit_status, self._oom_suspected))

    @property
    def _oom_suspected(self) -> bool:
        return process_memory.oom_kill_count() > self.oom_kills_at_start


def _stop_listening(descriptor: int) -> None:
    """Refuse connections to a socket that no child will take them from; its owner closes it."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listener:
        listener.shutdown(socket.SHUT_RDWR)


def supervise(
    groups: Sequence[Sequence[ChildSpec]],
    *,
    grace_seconds: float,
    is_ready: Callable[[], bool] = lambda: True,
    on_child_exit: OnChildExit = ignore_exit,
) -> int:
    """Keep every child running until SIGTERM or SIGINT; returns 0, 130 after Ctrl-C, or 6 if the schema differs.

    groups: children that start together. Groups start in order and stop in reverse order, because finishing workers
        still need the first group. A second signal is passed on to the last group.
    grace_seconds: time for a group to end before its children are killed.
    is_ready: whether the groups after the first may start.
    on_child_exit: called in this thread for each exit of a child that has a worker id.
    """
    children = [[Child(spec, on_child_exit) for spec in group] for group in groups]
    with _handle_stop_signals(children[-1]) as (stopping, received):
        try:
            while not stopping.is_set():
                _run_groups(children, is_ready)
                if any(child.schema_outdated for group in children for child in group):
                    log.error("supervisor.aborted", reason="a child needs tables of another version: none is restarted")
                    return SchemaMismatch.exit_code
                stopping.wait(POLL_SECONDS)
        finally:
            for group in reversed(children):
                _stop_group(group, grace_seconds)
    return 128 + signal.SIGINT if signal.SIGINT in received else os.EX_OK


def _run_groups(children: Sequence[Sequence[Child]], is_ready: Callable[[], bool]) -> None:
    for index, group in enumerate(children):
        if index == 0 or is_ready():
            for child in group:
                child.run_once(time.monotonic())


@contextmanager
def _handle_stop_signals(last_group: Sequence[Child]) -> Iterator[tuple[threading.Event, list[int]]]:
    """Yield an event that SIGTERM or SIGINT sets, and the signals received; later ones stop `last_group`."""
    stopping = threading.Event()
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stopping.set()
        if len(received) > 1:
            for child in last_group:
                child.send_signal()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping, received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_group(group: Sequence[Child], grace_seconds: float) -> None:
    deadline = time.monotonic() + grace_seconds
    for child in group:
        child.send_signal()
    for child in group:
        child.wait_or_kill(deadline)
