"""The memory share of a process on a GPU: its limit beside other processes, and whether an error is its own fault.

torch's allocator refuses what exceeds the limit. Below it, an allocation fails only if others have the memory: the
neighbours' contexts and libraries, which no limit counts, or a program outside of Batchmill.
"""

import re

import torch

from worker.process_device import SHARED_MEMORY_FRACTION

REQUESTED_SIZE = re.compile(r"Tried to allocate ([0-9.]+) (bytes|KiB|MiB|GiB)")
ROUNDING_FACTOR = 1.01  # the message has two decimals: 1.00 GiB may be up to 5 MiB more
BYTES_PER_UNIT = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def limit_memory(device: torch.device, processes: int) -> None:
    """Limit this process to an equal share of the device's memory; one that has the device alone has no limit."""
    if device.type == "cuda" and processes > 1:
        torch.cuda.set_per_process_memory_fraction(SHARED_MEMORY_FRACTION / processes, device)


def is_taken_by_others(device: torch.device, error: BaseException) -> bool:
    """Whether others had the memory that this process lacked.

    To a process without a limit, its share is what a card leaves for allocations. It lacked memory itself if the error
    names no size.

    Ask before the memory of the failed work is released.
    """
    if device.type != "cuda":
        return False
    fraction = torch.cuda.get_per_process_memory_fraction(device)
    requested = requested_bytes(error)
    if fraction >= 1 and requested is None:
        return False
    share_bytes = min(fraction, SHARED_MEMORY_FRACTION) * torch.cuda.mem_get_info(device)[1]
    return fits_share(torch.cuda.memory_reserved(device), requested, share_bytes)


def fits_share(held_bytes: float, requested: float | None, share_bytes: float) -> bool:
    """Whether a process that holds so much could have got what it requested within its share. Pure.

    requested: None = not known; the process then counts as innocent below half of its share.
    """
    if requested is None:
        return held_bytes < share_bytes / 2
    return held_bytes + ROUNDING_FACTOR * requested <= share_bytes


def requested_bytes(error: BaseException) -> float | None:
    """Return the size that an out-of-memory error of torch names; None if it names none. Pure."""
    match = REQUESTED_SIZE.search(str(error))
    return float(match[1]) * BYTES_PER_UNIT[match[2]] if match else None
