"""Device names as an operator writes them: `cuda:0*4,cpu` asks for four processes on one GPU and one on the CPU."""

import re
from dataclasses import dataclass

DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?)$"
MAX_PROCESSES = 64  # of one entry; more is a typing mistake


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One entry of `--devices`: a device, and the processes to run on it; None = no number given."""

    device: str
    processes: int | None = None


def parse_devices(text: str) -> list[DeviceRequest]:
    """Return the entries of a list of devices. Raises ValueError with a sentence for the operator."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("it names no device; write cuda:0,cuda:1 or cuda:0*4 or cpu, or leave it out")
    return [_parse_entry(entry) for entry in entries]


def _parse_entry(entry: str) -> DeviceRequest:
    device, star, count = (part.strip() for part in entry.partition("*"))
    if not re.fullmatch(DEVICE_PATTERN, device):
        raise ValueError(f"{entry[:80]!r} is no device; write cuda:0,cuda:1 or cuda:0*4 or cpu, or leave it out")
    if not star:
        return DeviceRequest(device)
    if not re.fullmatch(r"[0-9]{1,4}", count) or not 1 <= int(count) <= MAX_PROCESSES:
        raise ValueError(f"{entry[:80]!r} asks for no number of processes from 1 to {MAX_PROCESSES}; write {device}*4")
    return DeviceRequest(device, int(count))
