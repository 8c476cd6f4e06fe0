"""Run every benchmark in a separate process, then print the tables and the total time."""

import os
import platform
import subprocess
import sys
import time

import torch
import transformers

BENCHMARKS = ("noop", "encoder", "int8", "generation", "seq2seq", "ner", "zero_shot", "memory", "matmul_ceiling", "cpu")


def main() -> int:
    """Run the benchmarks named on the command line, or all; returns the worst exit status."""
    started = time.monotonic()
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}; "
        f"load before: {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    worst = 0
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode)
    print(f"\nThe whole run took {(time.monotonic() - started) / 60:.0f} minutes.")
    return worst


if __name__ == "__main__":
    sys.exit(main())
