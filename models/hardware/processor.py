"""The processor's instructions for numbers of 16 and 8 bits, without which such numbers are slow or inexact."""

import re
from pathlib import Path

CPUINFO_FILE = Path("/proc/cpuinfo")
# By dtype: x86 lists its instructions as `flags`, ARM as `Features`.
INSTRUCTIONS_BY_DTYPE = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}

INT8_INSTRUCTIONS = frozenset({"avx512_vnni"})  # as torchao asks torch


def has_instructions_for(dtype: str) -> bool | None:
    """Whether this processor multiplies matrices of `bfloat16` or `float16`; None = not known."""
    instructions = _instructions()
    return bool(instructions & INSTRUCTIONS_BY_DTYPE[dtype]) if instructions else None


def multiplies_int8() -> bool:
    """Whether this processor multiplies numbers of 8 bits and adds the products without overflow."""
    return bool(_instructions() & INT8_INSTRUCTIONS)


def _instructions() -> frozenset[str]:
    """Return the flags of the first processor; empty on a system that has no such file."""
    try:
        match = re.search(r"^(?:flags|Features)\s*:(.*)$", CPUINFO_FILE.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(match[1].split()) if match else frozenset()
