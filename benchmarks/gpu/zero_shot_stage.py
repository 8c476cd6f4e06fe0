"""BART-large with five labels: `pipeline()` and our loop, in float32 and float16."""

from benchmarks import checkpoints, corpus
from benchmarks.gpu import geometries
from benchmarks.gpu.measuring import StageContext, jobs_for, run_loop, run_pipeline, watch_gpu

LABELS = ["delivery", "quality", "price", "service", "size"]
TEXTS, SMOKE_TEXTS, CLAIM_JOBS = 4_000, 40, 1_024
TASK = "zero-shot-classification"


def run(context: StageContext) -> None:
    """Record texts per second."""
    folder = geometries.build_nli_model(context)
    texts = corpus.random_texts(checkpoints.load_tokenizer(folder), SMOKE_TEXTS if context.smoke else TEXTS)
    jobs = jobs_for([{"text": text} for text in texts], {"candidate_labels": LABELS})
    for dtype in ("float32",) if context.smoke else ("float16", "float32"):
        pipe = context.load_pipeline(TASK, folder, dtype)
        for size in (8,) if context.smoke else (8, 64):
            pace = run_pipeline(pipe, texts, size, context.seconds / 2, candidate_labels=LABELS)
            context.record(f"pipeline(batch_size={size}), {dtype}", pace, texts_per_second=pace)
        del pipe
        loaded = context.load(TASK, folder, dtype=dtype)
        run_loop(loaded, jobs[: len(jobs) // 20], loaded.micro_batch_tokens, context.seconds)
        with watch_gpu(context.device) as monitor:
            result = run_loop(loaded, jobs, loaded.micro_batch_tokens, context.seconds, CLAIM_JOBS)
        context.record(
            f"our loop, {dtype}",
            round(result.texts_per_second, 1),
            "; ".join(filter(None, (result.shares, monitor.summary))),
            texts_per_second=result.texts_per_second,
        )
        del loaded
        context.release_memory()
