"""Placement: how the weights of a large model are spread over the devices of one process, memory and disk. Pure."""

import re
from collections.abc import Mapping
from typing import Literal

DeviceMap = Literal["auto", "balanced", "sequential"]

DEVICE = re.compile(r"cpu|cuda:(0|[1-9]\d{0,2})")
SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?(MB|GB|TB|MiB|GiB|TiB)")
BYTES_PER_UNIT = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_max_memory(values: Mapping[str, str]) -> dict[str, int]:
    """Return the bytes for each device. Raises ValueError with a sentence for the operator."""
    if not values:
        raise ValueError('names no device; write { "cuda:0" = "20GiB", cpu = "60GiB" }, or leave it out')
    for device in values:
        if not DEVICE.fullmatch(device):
            raise ValueError(f"names {device[:40]!r}, which is no device; write cpu, or cuda:0 and so on in quotes")
    return {device: _parse_size(device, size) for device, size in values.items()}


def _parse_size(device: str, size: str) -> int:
    match = SIZE.fullmatch(size.strip())
    if match is None or not float(match[1]):
        raise ValueError(f'gives {device} {size[:40]!r}, which is no size; write a number and a unit, as in "20GiB"')
    return int(float(match[1]) * BYTES_PER_UNIT[match[2]])
