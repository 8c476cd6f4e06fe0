"""Safetensors files that are headers only."""

import json
from pathlib import Path
from typing import Any


def write_header(path: Path, tensors: dict[str, tuple[str, int]]) -> None:
    """Write a file whose tensors have these dtypes, by safetensors' codes, and sizes in bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, (code, size) in tensors.items():
        header[name] = {"dtype": code, "shape": [size], "data_offsets": [0, size]}
    content = json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content)
