"""The soak test kills, freezes and disconnects servers and processes while batches run, and then checks all rows.

`python -m tests.soak --minutes 5 --seed 7`; exits with 1 if anything was lost, written twice or computed wrongly.
"""

import argparse
import json
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.soak import checks
from tests.soak.checks import ConsistencyReport, RecoveryTimes
from tests.soak.cluster import Cluster, run_cluster
from tests.soak.faults import FaultInjector
from tests.soak.producer import real_texts

SELECT_UNFINISHED_BATCHES = "SELECT id, status FROM batches WHERE status IN ('validating', 'in_progress', 'cancelling')"
MAX_DRAIN_SECONDS = 300.0

REFERENCE_SCRIPT = """
import json, sys
from transformers import pipeline
from models.pipelines.pipeline import SAMPLES_FOLDER
model = pipeline("sentiment-analysis", model=str(SAMPLES_FOLDER / "sentiment-analysis"), device="cpu")
print(json.dumps({text: model(text)[0] for text in json.load(sys.stdin)}))
"""


def main() -> int:
    """Inject faults, wait for all batches, check them; returns the exit status."""
    options = _parse_options()
    print(f"soak on {options.database}, {options.minutes:g} minutes, seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is stopped at the exit
    rng = random.Random(options.seed)
    expected = _reference_outputs()
    with tempfile.TemporaryDirectory(prefix="batchmill-soak-") as folder:
        with run_cluster(Path(folder), options.database, options.lease, random.Random(rng.random())) as cluster:
            cluster.accepted_file.touch()
            cluster.start()
            faults = FaultInjector(cluster, rng)
            _inject_faults(cluster, faults, options.minutes * 60)
            drain_seconds = _wait_until_drained(cluster)
            report = checks.run_checks(cluster, expected)
            times = checks.measure_recovery(cluster, faults.kills)
            if options.log:
                Path(options.log).write_text(cluster.log)
        _print_report(faults, report, times, drain_seconds)
    return 1 if report.violations else 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--log", help="file for the logs of all processes")
    return parser.parse_args()


def _reference_outputs() -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-c", REFERENCE_SCRIPT],
        input=json.dumps(real_texts()),
        capture_output=True,
        text=True,
        check=True,
    )
    outputs: dict[str, Any] = json.loads(result.stdout)
    return outputs


def _inject_faults(cluster: Cluster, faults: FaultInjector, seconds: float) -> None:
    end, due = time.monotonic() + seconds, time.monotonic() + 5.0  # a pause without faults
    while time.monotonic() < end:
        cluster.restart_exited()
        if time.monotonic() >= due:
            faults.run_once()
            due = time.monotonic() + faults.rng.uniform(0.3, 2.0)
        time.sleep(0.1)


def _wait_until_drained(cluster: Cluster) -> float:
    """Wait until all batches have ended; returns how many seconds that took."""
    cluster.stop_faults()
    started = time.monotonic()
    while unfinished := cluster.query(SELECT_UNFINISHED_BATCHES):
        cluster.restart_exited()
        if time.monotonic() - started > MAX_DRAIN_SECONDS:
            cluster.unexpected_exits += [f"{row.id} is still {row.status}" for row in unfinished]
            break
        time.sleep(0.25)
    return time.monotonic() - started


def _print_report(
    faults: FaultInjector, report: ConsistencyReport, recovery_times: RecoveryTimes, drain_seconds: float
) -> None:
    rows = [(name, f"{count:,}") for name, count in sorted(faults.counts.items())]
    rows += [
        ("faults in total", f"{sum(faults.counts.values()):,}"),
        ("batches", f"{report.batches:,}"),
        ("jobs", f"{report.jobs:,}"),
        ("vectors", f"{report.vectors:,}"),
        ("lost", f"{report.lost:,}"),
        ("written twice", f"{report.duplicated:,}"),
        ("wrong", f"{report.wrong:,}"),
        ("seconds until all batches ended", f"{drain_seconds:.1f}"),
        ("after kill -9: requeued, s", _format_percentiles(recovery_times.release_seconds)),
        ("after kill -9: claimed again, s", _format_percentiles(recovery_times.reclaim_seconds)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for sentence in report.violations:
        print(f"VIOLATION  {sentence}")


def _format_percentiles(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {middle:.1f}, p99 {high:.1f}, max {ordered[-1]:.1f} (of {len(ordered)})"


if __name__ == "__main__":
    sys.exit(main())
