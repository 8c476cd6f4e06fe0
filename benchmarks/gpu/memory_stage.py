"""Out of memory: 4,000 texts with 2 GiB allowed and a token budget that asks for far more."""

import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import checkpoints, corpus
from benchmarks.gpu import geometries
from benchmarks.gpu.deployment import PIPELINE, temporary_deployment
from benchmarks.gpu.measuring import StageContext, run_pipeline
from tests.servers import Valkey

LONG_TEXTS, TEXTS, SMOKE_TEXTS = 1_000, 3_000, 100
ALLOWED_BYTES = 2 * 2**30
BUDGET_TOKENS = 2**20
MAX_WAIT_SECONDS = 30.0
COUNT_OUTCOMES = "SELECT succeeded, failed, total FROM batches WHERE id = :id"


def run(context: StageContext) -> None:
    """Record what `pipeline()` does with large batches, and that none of our texts fails."""
    folder = geometries.build_classifier(context)
    texts = corpus.random_texts(checkpoints.load_tokenizer(folder), SMOKE_TEXTS if context.smoke else TEXTS)
    texts += [f"{'word ' * 600}{number}" for number in range(10 if context.smoke else LONG_TEXTS)]
    if not context.smoke:
        total = torch.cuda.get_device_properties(context.device).total_memory
        torch.cuda.set_per_process_memory_fraction(ALLOWED_BYTES / total, context.device)
        pipe = context.load_pipeline("text-classification", folder, "float32")
        for size in (64, 1_024):
            pace = run_pipeline(pipe, texts[::-1], size, context.seconds / 2, truncation=True)
            context.record(f"pipeline(batch_size={size}) with 2 GiB", pace)
        del pipe
        context.release_memory()
    _measure_ours(context, folder, texts)


def _measure_ours(context: StageContext, folder: Path, texts: list[str]) -> None:
    with Valkey() as valkey:
        settings = {"BATCHMILL_REDIS_URL": valkey.url, "BATCHMILL_MICRO_BATCH_TOKENS": str(BUDGET_TOKENS)}
        with temporary_deployment(context.folder / "home", folder, "float32", settings) as deployment:
            with (deployment.folder / "log").open("ab") as log:
                command = [sys.executable, "-P", "-m", "benchmarks.gpu.limited_worker_process", PIPELINE]
                process = subprocess.Popen(
                    [*command, context.device, str(ALLOWED_BYTES)],
                    cwd=deployment.folder,
                    env=deployment.environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                )
            deployment.processes.append(process)
            deployment.wait_for_workers()
            batch = deployment.client.submit(PIPELINE, texts)
            batch.wait(MAX_WAIT_SECONDS)
            [outcome] = deployment.query(COUNT_OUTCOMES, id=batch.id)
            shrunk = deployment.log.count("device.out_of_memory")
    context.record(
        "ours with 2 GiB",
        f"{outcome.failed} of {outcome.total} failed",
        f"{shrunk} times out of memory, from a budget of {BUDGET_TOKENS:,} tokens",
        failed=outcome.failed,
    )
