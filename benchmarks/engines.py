"""Other engines for an encoder on a CPU: torch.compile and ONNX Runtime against torch, on the same micro-batches."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import THREADS, checkpoints, corpus, environments, loops, options, report
from benchmarks.contest import Contestant, Standing, held
from worker.engine import planning
from worker.leasing.leases import Job, Lease
from worker.loading.runtime import Runtime

TASK = "sentiment-analysis"
BUDGETS = (512, 1_024)
FIXED_BUDGETS = (512,)  # each shape is a graph to compile

FLOAT32 = {
    "torch": "torch, as pipeline() runs it",
    "ours": "torch, as we run it",
    "compile_dynamic": "torch.compile(dynamic=True)",
    "compile_fixed": "torch.compile, fixed shapes",
    "onnx": "ONNX Runtime",
    "onnx_fused": "ONNX Runtime, fused for transformers",
}
INT8 = {
    "ours_int8": "ours: a range for each token",
    "torch_int8": "torch: a range for each pass",
    "onnx_int8": "ONNX Runtime: a range for each pass",
}


@dataclass
class Process:
    """`engine_loop` in an environment of its own."""

    process: subprocess.Popen[str]

    def ask(self, **request: Any) -> dict[str, float]:
        """The answer to one request."""
        self.tell(request)
        assert self.process.stdout
        answer: dict[str, float] = json.loads(self.process.stdout.readline() or "{}")
        if not answer:
            raise RuntimeError(f"the engines ended with {self.process.wait()} at {request}")
        return answer

    def tell(self, request: dict[str, Any]) -> None:
        """Send a request."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()


def main() -> None:
    """Print the paces in float32 and in int8, what it took to get there, and how far the scores are off."""
    asked = options.parsed(__doc__, items=128, rounds=5, distribution=True)
    model = checkpoints.classifier()
    texts = corpus.texts(checkpoints.tokenizer(model), asked.items, asked.lengths)
    plain, small = loops.load(TASK, model), loops.load(TASK, model, quantization="int8")
    with _engines(model, {budget: _planned(plain, texts, budget) for budget in BUDGETS}) as engines:
        prepared = {name: engines.ask(do="prepare", engine=name, budgets=_budgets(name)) for name in (*FLOAT32, *INT8)}
        title = f"{asked.items} texts of {asked.lengths} lengths, DistilBERT-base, float32"
        _contest(title, engines, FLOAT32, "ours", plain, texts, asked.rounds)
        _contest(title.replace("float32", "int8"), engines, INT8, "ours_int8", small, texts, asked.rounds)
    rows = [
        (name, f"{prepared[key]['seconds']:.1f}", f"{prepared[key]['off']:.1e}")
        for key, name in (FLOAT32 | INT8).items()
    ]
    report.table("Seconds until warm, and the largest distance from torch's scores in float32", ("", "s", "off"), rows)


def _contest(
    title: str, engines: Process, names: dict[str, str], ours: str, loaded: Runtime, texts: list[str], rounds: int
) -> None:
    for budget in BUDGETS:
        inputs = [{"text": text} for text in texts]
        bare = loops.bare(replace(loaded, tokens_per_batch=budget), inputs)
        bare()
        contestants = [Contestant("our bare loop, tokenizing and all", bare)]
        for key, name in names.items():
            if budget in _budgets(key):
                contestants.append(Contestant(name, _run(engines, key, budget)))
        standings: dict[str, Standing] = held(contestants, len(texts), rounds)
        report.paces(f"{title}, {budget:,} tokens", "texts/s", standings, names[ours])


def _run(engines: Process, engine: str, budget: int) -> loops.Loop:
    return lambda: engines.ask(do="run", engine=engine, budget=budget)["seconds"]


def _budgets(engine: str) -> tuple[int, ...]:
    return FIXED_BUDGETS if engine == "compile_fixed" else BUDGETS


def _planned(loaded: Runtime, texts: list[str], budget: int) -> list[list[list[int]]]:
    """The token ids of each micro-batch, as our planner makes them."""
    lease = Lease(1, "engines", 0, len(texts), 1, 1)
    encoded = loaded.adapter.encode([Job(lease, place, {"text": text}) for place, text in enumerate(texts)])
    rows = [row for of_job in encoded if isinstance(of_job, list) for row in of_job]
    planned = planning.plan(rows, budget, loaded.adapter.most_rows)
    return [[list(row.features["input_ids"]) for row in batch.rows] for batch in planned]


@contextmanager
def _engines(model: Path, batches: dict[int, list[list[list[int]]]]) -> Iterator[Process]:
    python = environments.onnxruntime()
    with tempfile.TemporaryDirectory(prefix="batchmill-onnx-") as folder:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.engine_loop"],
            cwd=Path(__file__).parent.parent, env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        engines = Process(process)
        try:
            engines.tell({"model": str(model), "folder": folder, "threads": THREADS, "batches": batches})
            yield engines
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(60)


if __name__ == "__main__":
    main()
