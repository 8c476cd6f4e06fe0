"""The memory share of a process, on a device that a stand-in plays."""

import pytest
import torch

from worker.loading import memory_share

GIBIBYTE = 1 << 30
CUDA = torch.device("cuda", 0)


class FakeCard:
    """A card of 80 GiB, as `torch.cuda` describes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reserved: float, fraction: float = 1.0) -> None:
        self.fraction = fraction
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", self.set_fraction)
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _device: self.fraction)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (0, 80 * GIBIBYTE))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: reserved * GIBIBYTE)

    def set_fraction(self, fraction: float, _device: torch.device) -> None:
        self.fraction = fraction


@pytest.mark.parametrize(("device", "processes", "fraction"), [(CUDA, 4, 0.2375), (CUDA, 1, 1.0), ("cpu", 4, 1.0)])
def test_only_a_shared_card_is_limited(
    monkeypatch: pytest.MonkeyPatch, device: str | torch.device, processes: int, fraction: float
) -> None:
    card = FakeCard(monkeypatch, reserved=0)

    memory_share.limit_memory(torch.device(device), processes)

    assert card.fraction == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("reserved", "message", "is_theirs"),
    [
        (2.0, "CUDA out of memory. Tried to allocate 10.00 GiB. GPU 0 has a total capacity of 80.00 GiB", True),
        (2.0, "CUDA out of memory. Tried to allocate 30.00 GiB. GPU 0 has a total capacity of 80.00 GiB", False),
        (18.0, "CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has", False),  # or slightly more
        (18.9, "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has", True),
        (18.9, "CUDA out of memory. Tried to allocate 200.00 MiB. GPU 0 has", False),
        (18.9, "CUDA out of memory. Tried to allocate 512 bytes. GPU 0 has", True),
        (9.0, "out of memory", True),
        (10.0, "out of memory", False),
    ],
)
def test_others_are_to_blame_within_the_own_share(
    monkeypatch: pytest.MonkeyPatch, reserved: float, message: str, is_theirs: bool
) -> None:
    FakeCard(monkeypatch, reserved, fraction=0.2375)  # a share of 19 GiB

    assert memory_share.is_taken_by_others(CUDA, torch.OutOfMemoryError(message)) == is_theirs


@pytest.mark.parametrize(
    ("reserved", "message", "is_theirs"),
    [
        (2.0, "CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 80.00 GiB", True),
        (2.0, "CUDA out of memory. Tried to allocate 90.00 GiB. GPU 0 has a total capacity of 80.00 GiB", False),
        (75.5, "CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 80.00 GiB", False),
        (0.0, "out of memory", False),
    ],
)
def test_other_programs_are_to_blame_where_no_process_shares(
    monkeypatch: pytest.MonkeyPatch, reserved: float, message: str, is_theirs: bool
) -> None:
    FakeCard(monkeypatch, reserved)

    assert memory_share.is_taken_by_others(CUDA, torch.OutOfMemoryError(message)) == is_theirs


def test_nobody_else_is_to_blame_without_a_gpu() -> None:
    assert not memory_share.is_taken_by_others(torch.device("cpu"), MemoryError())
