"""Where the card's time goes: kernels, launches and copies of each pass, by torch's profiler."""

import time
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks import checkpoints, corpus
from benchmarks.gpu import geometries
from benchmarks.gpu.measuring import StageContext, jobs_for, rows_of
from worker.passes import planning

BUDGETS = (4_096, 16_384, 65_536)
TEXTS, SMOKE_TEXTS, WARM_UP_PASSES, SHOWN_KERNELS = 4_096, 200, 4, 8
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx")


def run(context: StageContext) -> None:
    """Record the share of the time in which a kernel ran, and the passes' launches and waits."""
    folder = geometries.build_classifier(context)
    loaded = context.load("sentiment-analysis", folder, dtype="float32" if context.smoke else "float16")
    texts = corpus.random_texts(checkpoints.load_tokenizer(folder), SMOKE_TEXTS if context.smoke else TEXTS)
    rows = [
        row
        for encoded in loaded.adapter.encode(jobs_for([{"text": text} for text in texts]))
        for row in rows_of(encoded)
    ]
    tokens = sum(row.length for row in rows)
    for budget in (512,) if context.smoke else BUDGETS:
        passes = planning.plan_micro_batches(rows, budget, loaded.adapter.max_rows)
        _run_passes(context, loaded.adapter, passes[:WARM_UP_PASSES])
        seconds = _run_passes(context, loaded.adapter, passes)
        activities = [ProfilerActivity.CPU, *([] if context.smoke else [ProfilerActivity.CUDA])]
        with profile(activities=activities) as profiled:
            _run_passes(context, loaded.adapter, passes)
        _record(context, budget, len(passes), tokens, seconds, profiled.key_averages())


def _run_passes(context: StageContext, adapter: Any, passes: Any) -> float:
    started = time.perf_counter()
    for micro_batch in passes:
        adapter.forward(micro_batch)
    context.synchronize()
    return time.perf_counter() - started


def _record(context: StageContext, budget: int, passes: int, tokens: int, seconds: float, events: Any) -> None:
    key = "self_cpu_time_total" if context.smoke else "self_device_time_total"
    on_card = [event for event in events if context.smoke or str(event.device_type).endswith("CUDA")]
    kernel_seconds = sum(getattr(event, key) for event in on_card) / 1e6
    launches = sum(event.count for event in events if event.key in LAUNCHES) / passes
    waits = sum(event.count for event in events if "Synchronize" in event.key) / passes
    copies = sum(event.count for event in events if event.key == "cudaMemcpyAsync") / passes
    slowest = sorted(on_card, key=lambda event: getattr(event, key), reverse=True)[:SHOWN_KERNELS]
    context.record(
        f"kernels at {budget:,} tokens",
        f"{kernel_seconds / seconds:.0%} of the time",
        f"{passes} passes, {tokens / seconds / 1e6:.2f} M tokens/s, {tokens / max(kernel_seconds, 1e-9) / 1e6:.2f} M "
        f"if kernels alone took time; a pass has {launches:.0f} launches, {copies:.0f} copies and {waits:.0f} waits",
        kernel_share=kernel_seconds / seconds,
        kernels={event.key[:80]: round(getattr(event, key) / 1e3, 2) for event in slowest},
    )
