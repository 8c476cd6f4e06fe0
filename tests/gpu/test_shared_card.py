"""A process that shares a card: what it sees, its limit, and whose fault a lack of memory is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from models.hardware import gpus
from worker.process_device import ProcessDevice
from worker.supervisor import devices

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

PRINT_CARD = """
import torch
print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)
"""

HOLD_MEMORY = """
import sys, torch
held = torch.empty(int(float(sys.argv[1]) * torch.cuda.mem_get_info()[0]), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""

ALLOCATE = """
import sys, torch
from worker.loading import memory_share
device = torch.device("cuda", 0)
memory_share.limit_memory(device, 4)
total = torch.cuda.mem_get_info(device)[1]
try:
    torch.empty(int(float(sys.argv[1]) * total), dtype=torch.uint8, device=device)
    print("allocated")
except torch.OutOfMemoryError as error:
    print("theirs" if memory_share.is_taken_by_others(device, error) else "ours")
"""


def run(program: str, *arguments: str, device: ProcessDevice) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | devices.child_environment(device, 1, os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout.strip()


@pytest.fixture
def first() -> ProcessDevice:
    """The first of four processes on the first card."""
    return ProcessDevice("cuda:0#1", 4, gpus.list_gpus()[0].visible_name)


@contextmanager
def neighbour(device: ProcessDevice, share_of_free: float) -> Iterator[None]:
    """Another process, without a limit, that holds memory of the card."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_MEMORY, str(share_of_free)],
        env=os.environ | devices.child_environment(device, 1, os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.communicate("", timeout=60)


def test_the_supervisor_finds_the_cards_that_torch_finds() -> None:
    found = gpus.list_gpus()

    assert len(found) == torch.cuda.device_count()
    for index, gpu in enumerate(found):
        total = torch.cuda.get_device_properties(index).total_memory
        assert gpu.memory_bytes is None or abs(gpu.memory_bytes - total) < 0.05 * total


def test_a_process_sees_its_own_card_alone() -> None:
    for index, gpu in enumerate(gpus.list_gpus()):
        count, uuid = run(PRINT_CARD, device=ProcessDevice(f"cuda:{index}", 1, gpu.visible_name)).split()

        assert count == "1"
        assert uuid == str(torch.cuda.get_device_properties(index).uuid)


@pytest.mark.parametrize(("fraction", "outcome"), [("0.1", "allocated"), ("0.3", "ours")])
def test_what_exceeds_the_share_is_the_process_s_own_fault(first: ProcessDevice, fraction: str, outcome: str) -> None:
    assert run(ALLOCATE, fraction, device=first) == outcome


def test_what_a_neighbour_holds_is_not(first: ProcessDevice) -> None:
    with neighbour(first, 0.95):
        assert run(ALLOCATE, "0.2", device=first) == "theirs"
