"""What the stages share: rows of results, a monitor of the card, and the two ways to run a model."""

import gc
import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import pipeline

from models.pipelines.pipeline import Pipeline
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.runtime import Runtime
from worker.passes import planning

GPU_QUERY = "utilization.gpu,power.draw,memory.used"
PIPELINE_CHUNK = 256  # inputs of one call of pipeline(), between which the time is checked


@dataclass(frozen=True, slots=True)
class StageContext:
    """A stage's device, folder for models, file for rows, and the seconds of one measurement."""

    device: str
    folder: Path
    rows: Path
    seconds: float
    smoke: bool

    def record(self, what: str, result: Any, details: str = "", **figures: Any) -> None:
        """Write a row at once, so that it outlives a failure."""
        with self.rows.open("a") as file:
            file.write(json.dumps({"what": what, "result": result, "details": details, **figures}) + "\n")
        print(what, result, details, flush=True)

    def load(self, task: str, model: Path, **fields: Any) -> Runtime:
        """Load a checkpoint as a worker does."""
        entry = Pipeline(name="bench", task=task, model=str(model), **fields)
        return runtime.load(entry, self.device, threads=max(1, (os.cpu_count() or 2)))

    def load_pipeline(self, task: str, model: Path, dtype: str) -> Any:
        """Load transformers' pipeline."""
        return pipeline(task, model=str(model), tokenizer=str(model), device=self.device, dtype=getattr(torch, dtype))

    def synchronize(self) -> None:
        """Wait for the card."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def release_memory(self) -> None:
        """Free what no one refers to any more."""
        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()


@dataclass(slots=True)
class LoopResult:
    """What a loop over our adapter did."""

    texts_per_second: float
    outputs: dict[int, Any]
    seconds: dict[str, float]
    passes: int

    @property
    def shares(self) -> str:
        """The share of each step."""
        whole = sum(self.seconds.values()) or 1.0
        return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in self.seconds.items())


@dataclass(slots=True)
class GpuMonitor:
    """The card's use while a block runs, by nvidia-smi; empty without it."""

    summary: str = ""
    samples: list[list[float]] = field(default_factory=list)


@contextmanager
def watch_gpu(device: str) -> Any:
    """Yield a monitor whose `summary` is set when the block ends."""
    monitor = GpuMonitor()
    command = ["nvidia-smi", f"--query-gpu={GPU_QUERY}", "--format=csv,noheader,nounits", "-lms", "200"]
    index = device.partition(":")[2] or "0"
    process = (
        None if device == "cpu" else subprocess.Popen([*command, f"--id={index}"], stdout=subprocess.PIPE, text=True)
    )
    try:
        yield monitor
    finally:
        if process is not None:
            process.terminate()
            lines = process.communicate()[0].splitlines()
            monitor.samples = [[float(part) for part in line.split(",")] for line in lines if line.count(",") == 2]
    if monitor.samples:
        use, watts, mib = zip(*monitor.samples, strict=True)
        monitor.summary = f"card in use {mean(use):.0f} %, {mean(watts):.0f} W, {max(mib) / 1024:.1f} GiB"


def jobs_for(inputs: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None) -> list[Job]:
    """Return jobs of one slice."""
    lease = Lease(1, "bench", 0, len(inputs), 1, 1, parameters=dict(parameters or {}))
    return [Job(lease, position, dict(document)) for position, document in enumerate(inputs)]


def run_loop(
    loaded: Runtime, jobs: Sequence[Job], budget_tokens: int, max_seconds: float, claim_jobs: int = 4096
) -> LoopResult:
    """Encode, plan, run and decode in one thread, claim by claim, for about `max_seconds`."""
    adapter = loaded.adapter
    result = LoopResult(0.0, {}, dict.fromkeys(("encode", "plan", "forward", "decode"), 0.0), 0)
    started, done = time.perf_counter(), 0
    for start in range(0, len(jobs), claim_jobs):
        claimed = jobs[start : start + claim_jobs]
        clock = _Clock(result.seconds)
        rows = [row for encoded in adapter.encode(claimed) for row in rows_of(encoded)]
        clock.add("encode")
        planned = planning.plan_micro_batches(rows, budget_tokens, adapter.max_rows)
        clock.add("plan")
        parts: dict[int, list[tuple[Any, Any]]] = defaultdict(list)
        for micro_batch in planned:
            for row, raw in zip(micro_batch.rows, adapter.forward(micro_batch), strict=True):
                parts[row.job.position].append((row, raw))
        result.passes += len(planned)
        clock.add("forward")
        result.outputs.update(_decode(adapter, parts))
        clock.add("decode")
        done += len(claimed)
        if time.perf_counter() - started > max_seconds:
            break
    result.texts_per_second = done / (time.perf_counter() - started)
    return result


def run_pipeline(pipe: Any, inputs: Sequence[str], batch_size: int, max_seconds: float, **options: Any) -> float | str:
    """Return the pipeline's texts per second over about `max_seconds`, or the name of its error."""
    done, started = 0, time.perf_counter()
    chunk = batch_size * max(1, PIPELINE_CHUNK // batch_size)
    try:
        while done < len(inputs) and time.perf_counter() - started < max_seconds:
            done += len(pipe(list(inputs[done : done + chunk]), batch_size=batch_size, **options))
    except Exception as error:  # out of memory above all, which is a result here
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return f"{type(error).__name__} after {done} texts"
    return round(done / (time.perf_counter() - started), 1)


def rows_of(encoded: Any) -> Any:
    """Return a job's rows, or raise its error."""
    if isinstance(encoded, Exception):
        raise encoded
    return encoded


class _Clock:
    """Adds the time since the last step to the seconds of a step."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def add(self, step: str) -> None:
        now = time.perf_counter()
        self._seconds[step] += now - self._last
        self._last = now


def _decode(adapter: Any, parts: Mapping[int, list[tuple[Any, Any]]]) -> dict[int, Any]:
    """Decode all jobs at once where the adapter can; outputs are then JSON text."""
    jobs = []
    for of_job in parts.values():
        of_job.sort(key=lambda part: part[0].part_index)
        jobs.append(([row for row, _ in of_job], [raw for _, raw in of_job]))
    if hasattr(adapter, "decode_many"):
        return dict(zip(parts, adapter.decode_many(jobs), strict=True))
    return {position: adapter.decode(*job) for position, job in zip(parts, jobs, strict=True)}
