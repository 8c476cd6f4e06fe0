"""An upload takes the same memory whatever its size: measured at the peak of a process that does nothing else."""

import subprocess
import sys
from pathlib import Path

BOUND_MB = 24
SCRIPT = """
import asyncio, resource, sys
from models.settings import Settings
from producer.uploads import request_body
from producer.uploads.multipart import MultipartReceiver
from producer.uploads.storage.store import open_store

store = open_store(Settings.load(file_store=sys.argv[1]))
head = b'--X\\r\\nContent-Disposition: form-data; name="file"; filename="a"\\r\\n\\r\\n'
piece = b'{"text": "a line of some length"}\\n' * 1900

async def body(count):
    yield head
    for _ in range(count):
        yield piece
    yield b"\\r\\n--X--\\r\\n"

def upload(count):
    receiver = lambda: MultipartReceiver(store, "multipart/form-data; boundary=X", 2**30)
    stored = asyncio.run(request_body.receive(receiver, body(count))).stored
    store.delete(stored.location)
    return stored.size_bytes

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

upload(20)
before = peak()
size = upload(3200)
print(size // 2**20, peak() - before)
"""


def test_two_hundred_megabytes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "files")]
    size_mb, growth_mb = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert size_mb > 190
    assert growth_mb < BOUND_MB
