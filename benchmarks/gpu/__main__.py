"""Measure Batchmill on a GPU beside `pipeline()`: prints a table and writes benchmarks/results/gpu-DATE.json.

Needs no network: models are made from their geometry. On a machine without an installation, put the checkout and a
folder with the missing packages on PYTHONPATH, in this order. These are the extras worker, embedded and dev, without
torch, which would hide the machine's own: benchmarks/README.md has the commands.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report, results_file

ROOT = Path(__file__).parents[2]
SMOKE_RESULT = "gpu-smoke"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage and the seconds that it may take."""

    name: str
    limit_seconds: float


# The first ones are worth the most, if the run's time is used up.
STAGES = (
    Stage("tests", 70),
    Stage("environment", 25),
    Stage("encoder", 110),
    Stage("service", 100),
    Stage("memory", 40),
    Stage("zero_shot", 45),
    Stage("embedder", 30),
    Stage("generation", 80),
    Stage("kernels", 25),
)
SMOKE_LIMIT_FACTOR = 5  # a laptop that does other work too
KILL_AFTER_SECONDS = 5.0


class Run:
    """One run of the stages, whose rows are written to a file after each stage."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._limit_factor = SMOKE_LIMIT_FACTOR if options.smoke else 1
        self._deadline = time.monotonic() + 60 * options.minutes * self._limit_factor
        self._results: dict[str, Any] = {}

    def run_stage(self, stage: Stage) -> None:
        """Run a stage in a separate process and keep its rows, those before a failure or the limit too."""
        started = time.monotonic()
        seconds = min(stage.limit_seconds * self._limit_factor, self._deadline - started)
        status = "skipped: the run's time was used up"
        rows = self._folder / f"{stage.name}.jsonl"
        if seconds > 1:
            status = self._run_process(stage.name, rows, seconds)
        self._results[stage.name] = {
            "status": status,
            "seconds": round(time.monotonic() - started, 1),
            "rows": [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else [],
        }
        print(f"{stage.name}: {status}, {self._results[stage.name]['seconds']:.0f} s", file=sys.stderr, flush=True)
        self.save()

    def save(self) -> Path:
        """Write what there is so far."""
        result = {"device": self._options.device, "stages": self._results}
        return results_file.save(SMOKE_RESULT if self._options.smoke else "gpu", result, self._options.out)

    def print_table(self) -> None:
        """Print all rows, a stage after the other."""
        lines = [
            (stage.name, row["what"], str(row["result"]), row.get("details", ""))
            for stage in STAGES
            if stage.name in self._results
            for row in self._results[stage.name]["rows"]
        ]
        report.print_table(f"On {self._options.device}", ("stage", "measured", "result", "details"), lines)
        states = [(name, of["status"], f"{of['seconds']:.0f}") for name, of in self._results.items()]
        report.print_table("Stages", ("stage", "status", "s"), states)

    def has_failed(self) -> bool:
        """Whether any stage did not end as it should."""
        return any(stage["status"] != "done" for stage in self._results.values())

    def _run_process(self, name: str, rows: Path, seconds: float) -> str:
        log = self._folder / f"{name}.log"
        arguments = [name, self._options.device, str(rows), str(self._options.seconds)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.gpu.stage_process",
                    *arguments,
                    *(["--smoke"] * self._options.smoke),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end_group(process)
            return f"stopped after {seconds:.0f} s"
        if status:
            print(log.read_text(errors="replace")[-2500:], file=sys.stderr, flush=True)
        return "done" if status == 0 else f"failed with status {status}"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a stage with the workers that it has started."""
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(KILL_AFTER_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Run the stages; returns 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--device", default="cuda:0", help="the card")
    parser.add_argument("--stages", default=",".join(stage.name for stage in STAGES), help="separated by commas")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--minutes", type=float, default=7.0, help="of the whole run")
    parser.add_argument("--out", type=Path, default=results_file.RESULTS_FOLDER, help="folder of the JSON")
    options = parser.parse_args()
    if options.smoke:
        options.device, options.seconds = "cpu", 0.5
    names = options.stages.split(",")
    with tempfile.TemporaryDirectory(prefix="batchmill-gpu-") as folder:
        run = Run(options, Path(folder))
        # Measurements have the card to themselves; a smoke run measures nothing.
        with ThreadPoolExecutor(2 if options.smoke else 1) as pool:
            list(pool.map(run.run_stage, [stage for stage in STAGES if stage.name in names]))
        run.print_table()
        print(f"Written: {run.save()}")
    return int(run.has_failed())


if __name__ == "__main__":
    sys.exit(main())
