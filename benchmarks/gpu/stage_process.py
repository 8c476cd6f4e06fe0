"""The process of one stage; arguments: stage, device, file for its rows, seconds of one measurement, `--smoke`."""

import importlib
import logging
import sys
import tempfile
from pathlib import Path

import structlog

from benchmarks.gpu.measuring import StageContext


def main(arguments: list[str]) -> int:
    """Run the stage."""
    name, device, rows, seconds, *rest = arguments
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    stage = importlib.import_module(f"benchmarks.gpu.{name}_stage")
    with tempfile.TemporaryDirectory(prefix="batchmill-stage-") as folder:
        return stage.run(StageContext(device, Path(folder), Path(rows), float(seconds), "--smoke" in rest)) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
