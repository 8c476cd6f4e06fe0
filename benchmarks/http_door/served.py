"""`batchmill serve` in a separate process, with the memory and processor time of it and its children."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from tests.deployment import Deployment

MAX_START_SECONDS = 120.0  # on a busy machine
SAMPLE_SECONDS = 0.05
ADDRESS = re.compile(r"serving the pages and the API on http://([\d.]+):(\d+)")


@dataclass
class Served:
    """A running server.

    server_mib: peak resident memory of the server
    child_mib: of the largest of its children, such as the one that reads uploaded files
    """

    host: str
    port: int
    process: psutil.Process
    server_mib: float = 0.0
    child_mib: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """The address."""
        return f"http://{self.host}:{self.port}"

    def memory_mib(self) -> float:
        """The resident memory of the server now."""
        return float(self.process.memory_info().rss) / 2**20

    def processor_seconds(self) -> float:
        """The processor time of the server so far, without its children."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def watch_memory(self) -> None:
        """Sample the memory until the server ends; the kernel's peak of a child is gone with the child."""
        while not self.ended.wait(SAMPLE_SECONDS):
            try:
                self.server_mib = max(self.server_mib, self.memory_mib())
                for child in self.process.children(recursive=True):
                    self.child_mib = max(self.child_mib, child.memory_info().rss / 2**20)
            except psutil.Error:
                continue


@contextmanager
def serve(deployment: Deployment) -> Iterator[Served]:
    """Start a server of a deployment on a free port, and end it with the block."""
    start = len(deployment.log) if (deployment.folder / "log").exists() else 0
    process = deployment.start("serve", "--port", "0")
    served = Served(*_wait_for_address(deployment, start), psutil.Process(process.pid))
    sampler = threading.Thread(target=served.watch_memory, daemon=True)
    sampler.start()
    try:
        yield served
    finally:
        served.ended.set()
        sampler.join()
        process.terminate()
        process.wait(MAX_START_SECONDS)


def _wait_for_address(deployment: Deployment, start: int) -> tuple[str, int]:
    deadline = time.monotonic() + MAX_START_SECONDS
    while time.monotonic() < deadline:
        if found := ADDRESS.search(deployment.log, start):
            return found[1], int(found[2])
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{deployment.log[start:]}")
