"""Growth of a worker's memory over many short jobs, with exact and with rounded numbers of tokens.

Texts have log-normal lengths with a median of 14 words. Each contestant tokenizes, plans, scores and decodes them in a
process of its own, with the environment of a worker, and without a queue or SQL.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from math import log
from statistics import median
from typing import Any

import psutil

from benchmarks import inference_loops, report
from models.pipelines.pipeline import SAMPLES_FOLDER
from worker.layers import onednn_linear
from worker.leasing.leases import Job, Lease
from worker.loading import model_cache
from worker.passes.planning import MicroBatchPlanner
from worker.passes.token_budget import TokenBudgetTuner
from worker.supervisor.supervisor import CHILD_ENVIRONMENT

TASK = "sentiment-analysis"
CLAIM_JOBS = 2_000
MEDIAN_WORDS, SPREAD, MAX_WORDS = 14, 0.8, 400
# Whether numbers of tokens are rounded, and how many compiled products torch and oneDNN keep each.
CONTESTANTS = ((False, 1_024), (False, 16), (True, 16), (True, 64))


def main() -> None:
    """Print growth and processor time of each contestant, or measure one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000, help="jobs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--measure", choices=("exact", "rounded"), help="only this contestant, in this process")
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(_measure(asked.items, rounded=asked.measure == "rounded")))
        return
    runs = [[_measure_in_child(asked.items, *contestant) for contestant in CONTESTANTS] for _ in range(asked.rounds)]
    rows = [
        (
            "rounded" if rounded else "exact",
            f"{cached:,}",
            f"{median(run['growth_mb'] for run in own_runs):,.0f}",
            f"{median(run['cpu_ms'] for run in own_runs):.4f}",
        )
        for (rounded, cached), own_runs in zip(CONTESTANTS, zip(*runs, strict=True), strict=True)
    ]
    header = ("numbers of tokens", "cached products", "MB after the first 1,000", "processor ms/job")
    report.print_table(f"Memory growth over {asked.items:,} short jobs, sample classifier", header, rows)


def _measure_in_child(jobs: int, rounded: bool, cached: int) -> dict[str, float]:
    capacities = dict.fromkeys(("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"), str(cached))
    mode = "rounded" if rounded else "exact"
    command = [sys.executable, "-m", "benchmarks.memory_growth", "--items", str(jobs), "--measure", mode]
    environment = {**os.environ, **CHILD_ENVIRONMENT, **capacities}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def _measure(jobs: int, *, rounded: bool) -> dict[str, float]:
    if not rounded:
        onednn_linear.padded_token_count = lambda tokens: tokens
    runtime = inference_loops.load_runtime(TASK, SAMPLES_FOLDER / TASK)
    model_cache.freeze_gc()
    token_budget = TokenBudgetTuner(runtime.micro_batch_tokens, max_tokens=runtime.max_micro_batch_tokens)
    texts, process = _texts(), psutil.Process()
    _run_claim(runtime, token_budget, list(islice(texts, 1_000)))
    memory, processor_seconds = process.memory_info().rss, time.process_time()
    for start in range(1_000, jobs, CLAIM_JOBS):
        _run_claim(runtime, token_budget, list(islice(texts, min(CLAIM_JOBS, jobs - start))))
    return {
        "growth_mb": (process.memory_info().rss - memory) / 1e6,
        "cpu_ms": (time.process_time() - processor_seconds) / (jobs - 1_000) * 1e3,
    }


def _texts() -> Iterator[str]:
    source = random.Random(3)
    reviews = (SAMPLES_FOLDER / "reviews.jsonl").read_text("utf-8").splitlines()
    words = " ".join(json.loads(line)["text"] for line in reviews).split()
    while True:
        count = round(source.lognormvariate(log(MEDIAN_WORDS), SPREAD))
        yield " ".join(source.choices(words, k=max(1, min(MAX_WORDS, count))))


def _run_claim(runtime: Any, token_budget: TokenBudgetTuner, texts: list[str]) -> None:
    lease = Lease(1, "bench", 0, len(texts), 1, 1)
    encoded = runtime.adapter.encode([Job(lease, position, {"text": text}) for position, text in enumerate(texts)])
    planner = MicroBatchPlanner([row for rows in encoded for row in rows], runtime.adapter.max_rows)
    while (micro_batch := planner.next(budget := token_budget.next())) is not None:
        started = time.monotonic()
        outputs = runtime.adapter.forward(micro_batch)
        tokens = sum(row.length for row in micro_batch.rows)
        token_budget.record(budget, micro_batch.padded_tokens, tokens, time.monotonic() - started)
        for row, output in zip(micro_batch.rows, outputs, strict=True):
            runtime.adapter.decode([row], [output])


if __name__ == "__main__":
    main()
