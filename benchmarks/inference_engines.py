"""Alternative engines for an encoder on a CPU: torch.compile and ONNX Runtime against torch, same micro-batches."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import THREADS, checkpoints, corpus, inference_loops, options, peer_environments, report
from benchmarks.comparison import Candidate, Measurement, run_interleaved
from worker.leasing.leases import Job, Lease
from worker.loading.runtime import Runtime
from worker.passes import planning

TASK = "sentiment-analysis"
TOKEN_BUDGETS = (512, 1_024)
FIXED_SHAPE_TOKEN_BUDGETS = (512,)  # each shape is a graph to compile

FLOAT32_ENGINES = {
    "torch": "torch, as pipeline() runs it",
    "ours": "torch, as we run it",
    "compile_dynamic": "torch.compile(dynamic=True)",
    "compile_fixed": "torch.compile, fixed shapes",
    "onnx": "ONNX Runtime",
    "onnx_fused": "ONNX Runtime, fused for transformers",
}
INT8_ENGINES = {
    "ours_int8": "ours: a range for each token",
    "torch_int8": "torch: a range for each pass",
    "onnx_int8": "ONNX Runtime: a range for each pass",
}


@dataclass
class EngineProcess:
    """A child process that runs the inference engines in a separate environment."""

    process: subprocess.Popen[str]

    def request_reply(self, **request: Any) -> dict[str, float]:
        """Return the reply to a request."""
        self.send(request)
        assert self.process.stdout
        answer: dict[str, float] = json.loads(self.process.stdout.readline() or "{}")
        if not answer:
            raise RuntimeError(f"the engines ended with {self.process.wait()} at {request}")
        return answer

    def send(self, request: dict[str, Any]) -> None:
        """Send a request."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()


def main() -> None:
    """Print throughput in float32 and int8, preparation times and errors of the scores."""
    asked = options.parse_options(__doc__, items=128, rounds=5, distribution=True)
    model = checkpoints.classifier_folder()
    texts = corpus.random_texts(checkpoints.load_tokenizer(model), asked.items, asked.lengths)
    plain, small = (
        inference_loops.load_runtime(TASK, model),
        inference_loops.load_runtime(TASK, model, quantization="int8"),
    )
    with _start_engine_processes(
        model, {budget: _plan_micro_batches(plain, texts, budget) for budget in TOKEN_BUDGETS}
    ) as engines:
        prepared = {
            name: engines.request_reply(do="prepare", engine=name, budgets=_token_budgets_for(name))
            for name in (*FLOAT32_ENGINES, *INT8_ENGINES)
        }
        title = f"{asked.items} texts of {asked.lengths} lengths, DistilBERT-base, float32"
        _compare_engines(title, engines, FLOAT32_ENGINES, "ours", plain, texts, asked.rounds)
        _compare_engines(
            title.replace("float32", "int8"), engines, INT8_ENGINES, "ours_int8", small, texts, asked.rounds
        )
    rows = [
        (name, f"{prepared[key]['seconds']:.1f}", f"{prepared[key]['off']:.1e}")
        for key, name in (FLOAT32_ENGINES | INT8_ENGINES).items()
    ]
    report.print_table(
        "Seconds until warm, and the largest distance from torch's scores in float32", ("", "s", "off"), rows
    )


def _compare_engines(
    title: str,
    engines: EngineProcess,
    names: dict[str, str],
    our_engine: str,
    runtime: Runtime,
    texts: list[str],
    rounds: int,
) -> None:
    for budget in TOKEN_BUDGETS:
        inputs = [{"text": text} for text in texts]
        bare = inference_loops.bare_loop(replace(runtime, micro_batch_tokens=budget), inputs)
        bare()
        contestants = [Candidate("our bare loop, tokenizing and all", bare)]
        for key, name in names.items():
            if budget in _token_budgets_for(key):
                contestants.append(Candidate(name, _engine_run(engines, key, budget)))
        standings: dict[str, Measurement] = run_interleaved(contestants, len(texts), rounds)
        report.print_throughput(f"{title}, {budget:,} tokens", "texts/s", standings, names[our_engine])


def _engine_run(engines: EngineProcess, engine: str, token_budget: int) -> inference_loops.TimedRun:
    return lambda: engines.request_reply(do="run", engine=engine, budget=token_budget)["seconds"]


def _token_budgets_for(engine: str) -> tuple[int, ...]:
    return FIXED_SHAPE_TOKEN_BUDGETS if engine == "compile_fixed" else TOKEN_BUDGETS


def _plan_micro_batches(runtime: Runtime, texts: list[str], token_budget: int) -> list[list[list[int]]]:
    """Return the token ids of each micro-batch, as our planner groups them."""
    lease = Lease(1, "engines", 0, len(texts), 1, 1)
    encoded = runtime.adapter.encode([Job(lease, place, {"text": text}) for place, text in enumerate(texts)])
    rows = [row for of_job in encoded if isinstance(of_job, list) for row in of_job]
    planned = planning.plan_micro_batches(rows, token_budget, runtime.adapter.max_rows)
    return [[list(row.features["input_ids"]) for row in batch.rows] for batch in planned]


@contextmanager
def _start_engine_processes(model: Path, batches: dict[int, list[list[list[int]]]]) -> Iterator[EngineProcess]:
    python = peer_environments.onnxruntime_python()
    with tempfile.TemporaryDirectory(prefix="batchmill-onnx-") as folder:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.inference_engine_process"],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        engines = EngineProcess(process)
        try:
            engines.send({"model": str(model), "folder": folder, "threads": THREADS, "batches": batches})
            yield engines
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(60)


if __name__ == "__main__":
    main()
