"""The tests that need a GPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.measuring import StageContext

ROOT = Path(__file__).parents[2]
NO_TESTS = 5  # pytest's status if there is nothing to run


def run(context: StageContext) -> int:
    """Run `pytest -m gpu` and record its summary and the names of the tests that failed."""
    folder = ROOT / "tests" / "gpu"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Without a card they are skipped, and a smoke run may have none to collect.
    print(ran.stdout[-6000:], ran.stderr[-2000:], flush=True)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
    lines = ran.stdout.strip().splitlines() or [ran.stderr.strip()[-200:]]
    context.record("pytest -m gpu", lines[-1].strip("= "), ", ".join(failed), failed=failed)
    return 0 if ran.returncode in (0, NO_TESTS) else 1
