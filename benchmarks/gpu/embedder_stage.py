"""all-MiniLM-L6-v2: `SentenceTransformer.encode` and our loop, in float32 and float16."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks import checkpoints, corpus
from benchmarks.gpu.measuring import StageContext, jobs_for, run_loop, watch_gpu
from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.factories.minilm import minilm_folder

TASK = "feature-extraction"
BATCH_SIZES, BUDGETS = (32, 256), (16_384, 65_536)
TEXTS, SMOKE_TEXTS, COMPARED = 40_000, 100, 64


def run(context: StageContext) -> None:
    """Record texts per second, and the largest difference of a number from sentence-transformers in float32."""
    folder = SAMPLES_FOLDER / TASK if context.smoke else minilm_folder()
    texts = corpus.random_texts(checkpoints.load_tokenizer(folder), SMOKE_TEXTS if context.smoke else TEXTS)
    reference = SentenceTransformer(str(folder), device=context.device, local_files_only=True)
    expected = reference.encode(texts[:COMPARED], batch_size=1)
    for dtype in ("float32",) if context.smoke else ("float16", "float32"):
        _measure_encode(context, reference.to(getattr(torch, dtype)), texts, dtype)
        _measure_loop(context, folder, texts, dtype, expected)
        context.release_memory()


def _measure_encode(context: StageContext, model: SentenceTransformer, texts: Sequence[str], dtype: str) -> None:
    for size in (8,) if context.smoke else BATCH_SIZES:
        model.encode(list(texts[: 4 * size]), batch_size=size)
        with watch_gpu(context.device) as monitor:
            pace = _encode_pace(context, model, texts, size)
        context.record(f"encode(batch_size={size}), {dtype}", pace, monitor.summary, texts_per_second=pace)


def _encode_pace(context: StageContext, model: SentenceTransformer, texts: Sequence[str], size: int) -> float:
    """Texts per second; as many calls as fit into the time of a measurement, each of up to 10,000 texts."""
    started, done = time.perf_counter(), 0
    while done < len(texts) and time.perf_counter() - started < context.seconds:
        part = list(texts[done : done + 10_000])
        model.encode(part, batch_size=size)
        done += len(part)
    return round(done / (time.perf_counter() - started), 1)


def _measure_loop(context: StageContext, folder: Path, texts: Sequence[str], dtype: str, expected: np.ndarray) -> None:
    loaded = context.load(TASK, folder, dtype=dtype)
    jobs = jobs_for([{"text": text} for text in texts])
    for budget in (512,) if context.smoke else BUDGETS:
        run_loop(loaded, jobs[: len(jobs) // 20], budget, context.seconds / 3)
        with watch_gpu(context.device) as monitor:
            result = run_loop(loaded, jobs, budget, context.seconds)
        vectors = np.stack([np.frombuffer(result.outputs[position], "<f4") for position in range(len(expected))])
        difference = float(np.abs(vectors - expected).max())
        context.record(
            f"our loop at {budget:,} tokens, {dtype}",
            round(result.texts_per_second, 1),
            "; ".join(filter(None, (result.shares, monitor.summary, f"numbers differ by {difference:.1e} at most"))),
            texts_per_second=result.texts_per_second,
            largest_difference=difference,
        )
