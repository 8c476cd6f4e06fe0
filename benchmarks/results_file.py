"""Results as JSON under benchmarks/results, with the machine that they were measured on."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS_FOLDER = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "tokenizers")


def describe_machine() -> dict[str, Any]:
    """Return the processor, its cores, and the versions of Python and the libraries."""
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # of the last minute, this benchmark included
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }


def save(name: str, result: Mapping[str, Any], folder: Path = RESULTS_FOLDER) -> Path:
    """Write `NAME-DATE.json` and return its path; a second run on the same day replaces it."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y-%m-%d}.json"
    document = {"name": name, "measured_at": f"{now:%Y-%m-%d %H:%M} UTC", "machine": describe_machine(), **result}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _processor_name() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
