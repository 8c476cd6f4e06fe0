"""A checkpoint: the dtype and size of a model's weights, read from the headers of its safetensors files."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

MAX_HEADER_BYTES = 32 << 20  # headers of models with thousands of tensors have about a megabyte
MAX_FILES = 1_000
WEIGHTS_NAME, SHARDS_PATTERN = "model.safetensors", "model-*-of-*.safetensors"

FLOAT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BYTES_PER_VALUE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights in a model's folder.

    dtype: of most floating-point values, such as float32.
    values: the number of floating-point values.
    other_bytes: the size of all other weights, such as quantized ones.
    """

    dtype: str
    values: int
    other_bytes: int

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the headers in a model's folder; None if there are no weights, or none that can be read."""
        bytes_by_code: Counter[str] = Counter()
        try:
            for path in _weight_files(folder):
                for code, size in _read_sizes(path):
                    bytes_by_code[code] += size
        except (OSError, ValueError, ArithmeticError, AttributeError, LookupError, TypeError, RecursionError):
            return None  # no checkpoint: a worker says why when it loads it
        values_by_dtype = {
            dtype: bytes_by_code[code] // BYTES_PER_VALUE[dtype]
            for code, dtype in FLOAT_DTYPES.items()
            if bytes_by_code[code]
        }
        if not values_by_dtype:
            return None
        other_bytes = sum(size for code, size in bytes_by_code.items() if code not in FLOAT_DTYPES)
        dtype = max(values_by_dtype, key=lambda name: values_by_dtype[name])
        return cls(dtype, sum(values_by_dtype.values()), other_bytes)

    def size_bytes(self, dtype: str) -> int:
        """Return the size of the weights in memory if they are loaded as `dtype`."""
        return self.values * BYTES_PER_VALUE[dtype] + self.other_bytes


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers loads: the one file, or else its shards."""
    if (folder / WEIGHTS_NAME).is_file():
        return [folder / WEIGHTS_NAME]
    return sorted(path for path in folder.glob(SHARDS_PATTERN) if path.is_file())[:MAX_FILES]


def _read_sizes(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the code of each tensor's dtype, and its bytes.

    A safetensors file begins with eight bytes for the header's length and the header as JSON; see
    https://github.com/huggingface/safetensors#format.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError("the header is too long")
        header: Any = json.loads(file.read(length))
    for name, tensor in header.items():
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            yield str(tensor["dtype"]), max(0, int(end) - int(start))
