"""The GPUs of this machine that CUDA would see, found without torch, which takes seconds and a CUDA context.

`nvidia-smi` knows their memory. Where it is missing, as in some containers, device files give at least their number.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

DEVICE_FOLDER = Path("/dev")
QUERY_COMMAND = ("nvidia-smi", "--query-gpu=uuid,memory.total,mig.mode.current", "--format=csv,noheader,nounits")
QUERY_TIMEOUT_SECONDS = 20.0  # without its persistence daemon, the driver starts first
BYTES_PER_MEBIBYTE = 1 << 20

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a part of one (MIG), that a process can be given alone.

    visible_name: its index, UUID or MIG name, for `CUDA_VISIBLE_DEVICES`.
    memory_bytes: all of its memory; None = not known.
    is_found: whether this machine shows any card; otherwise only `CUDA_VISIBLE_DEVICES` speaks of this GPU.
    """

    visible_name: str
    memory_bytes: int | None = None
    is_found: bool = True


@dataclass(frozen=True, slots=True)
class Card:
    """A card as the driver lists it; `uuid` is empty and `memory_bytes` None where only its number is known."""

    uuid: str = ""
    memory_bytes: int | None = None


def list_gpus(environment: Mapping[str, str] | None = None) -> list[Gpu]:
    """Return the GPUs in the order in which torch numbers them; `CUDA_VISIBLE_DEVICES` selects among them.

    environment: the variables to obey; None = those of this process.
    """
    visible = (os.environ if environment is None else environment).get(VISIBLE_DEVICES)
    return select_visible(visible, _query_cards() or [Card()] * _device_file_count())


def select_visible(visible: str | None, cards: Sequence[Card]) -> list[Gpu]:
    """Return the GPUs that CUDA shows for this value of `CUDA_VISIBLE_DEVICES`; None = unset. Pure.

    CUDA ignores an entry that names no GPU, and all entries after it. Without known cards, any entry may name a GPU.
    """
    if visible is None:
        return [Gpu(str(index), card.memory_bytes) for index, card in enumerate(cards)]
    gpus: list[Gpu] = []
    for entry in visible.split(","):
        gpu = _find_gpu(entry.strip(), cards)
        if gpu is None:
            break
        gpus.append(gpu if cards else replace(gpu, is_found=False))
    return gpus


def _find_gpu(entry: str, cards: Sequence[Card]) -> Gpu | None:
    if re.fullmatch(r"MIG-[0-9A-Za-z/-]+", entry):
        return Gpu(entry)  # a part of a card; its memory is in no query
    if re.fullmatch(r"[0-9]{1,4}", entry):
        index = int(entry)
        if not cards:
            return Gpu(entry)
        return Gpu(entry, cards[index].memory_bytes) if index < len(cards) else None
    if not re.fullmatch(r"GPU-[0-9A-Za-z-]+", entry):
        return None
    if not any(card.uuid for card in cards):
        return Gpu(entry)
    matches = [card for card in cards if card.uuid.startswith(entry)]  # CUDA takes unique beginnings too
    return Gpu(entry, matches[0].memory_bytes) if len(matches) == 1 else None


def _query_cards() -> list[Card]:
    """Ask the driver; empty if it does not answer."""
    try:
        result = subprocess.run(
            QUERY_COMMAND, capture_output=True, text=True, timeout=QUERY_TIMEOUT_SECONDS, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [_parse_card(line) for line in result.stdout.splitlines() if line.count(",") == 2]


def _parse_card(line: str) -> Card:
    uuid, mebibytes, mig_mode = (part.strip() for part in line.split(","))
    # With MIG a process gets a part of the card, whose memory is not in this answer.
    is_known = mebibytes.isascii() and mebibytes.isdigit() and mig_mode != "Enabled"
    return Card(uuid, int(mebibytes) * BYTES_PER_MEBIBYTE if is_known else None)


def _device_file_count() -> int:
    return sum(1 for path in DEVICE_FOLDER.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit())
