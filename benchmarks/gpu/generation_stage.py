"""GPT-2 small with skewed ends: `pipeline()`, `generate_batch`, and our loop, greedy and seeded."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import synthetic_generator
from benchmarks.gpu import geometries
from benchmarks.gpu.measuring import StageContext, jobs_for, rows_of, run_pipeline, watch_gpu
from worker.loading.runtime import Runtime
from worker.passes.planning import MicroBatchPlanner

PROMPTS, SMOKE_PROMPTS, SEEDED_PROMPTS = 2_048, 24, 512
NEW_TOKENS, SMOKE_NEW_TOKENS = 256, 24
BUDGET_TOKENS = 65_536


def run(context: StageContext) -> None:
    """Record texts and new tokens per second."""
    folder = geometries.build_generator(context)
    dtype = "float32" if context.smoke else "bfloat16"
    prompts = synthetic_generator.random_prompts(SMOKE_PROMPTS if context.smoke else PROMPTS)
    options = {"max_new_tokens": SMOKE_NEW_TOKENS if context.smoke else NEW_TOKENS, "do_sample": False}
    _measure_peers(context, folder, dtype, prompts, options)
    context.release_memory()
    loaded = context.load("text-generation", folder, dtype=dtype)
    parameters = {**options, "return_full_text": False}
    _measure_ours(context, loaded, "greedy", prompts, parameters)
    seeded = prompts if context.smoke else prompts[:SEEDED_PROMPTS]
    _measure_ours(context, loaded, "seeded sampling", seeded, {**parameters, "do_sample": True, "seed": 7})


def _measure_peers(
    context: StageContext, folder: Path, dtype: str, prompts: Sequence[str], options: dict[str, Any]
) -> None:
    pipe = context.load_pipeline("text-generation", folder, dtype)
    pipe.tokenizer.padding_side = "left"
    for size in (8,) if context.smoke else (8, 64, 256):
        pace = run_pipeline(pipe, prompts, size, context.seconds, return_full_text=False, **options)
        context.record(f"pipeline(batch_size={size})", pace, "texts/s", texts_per_second=pace)
    if context.smoke:
        return
    try:
        _measure_generate_batch(context, pipe, prompts[:SEEDED_PROMPTS], options)
    except Exception as error:  # a peer's failure is a result
        context.record("generate_batch", f"{type(error).__name__}: {str(error)[:150]}")


def _measure_generate_batch(context: StageContext, pipe: Any, prompts: Sequence[str], options: dict[str, Any]) -> None:
    ids = pipe.tokenizer(list(prompts))["input_ids"]
    arguments = {"max_new_tokens": options["max_new_tokens"], "persistent_manager": True}
    pipe.model.generate_batch(inputs=ids[:8], **arguments)
    started = time.perf_counter()
    outputs = pipe.model.generate_batch(inputs=ids, **arguments)
    seconds = time.perf_counter() - started
    tokens = sum(len(output.generated_tokens) for output in outputs.values())
    context.record(
        "generate_batch, warm",
        f"{tokens / seconds:,.0f} new tokens/s",
        f"{len(ids) / seconds:,.1f} texts/s",
        tokens_per_second=tokens / seconds,
    )
    pipe.model.destroy_cached_continuous_batching_manager()


def _measure_ours(
    context: StageContext, loaded: Runtime, name: str, prompts: Sequence[str], parameters: dict[str, Any]
) -> None:
    _generate(loaded, prompts[:8], parameters, context.seconds)
    with watch_gpu(context.device) as monitor:
        texts, tokens, seconds = _generate(loaded, prompts, parameters, 4 * context.seconds)
    context.record(
        f"our loop, {name}",
        f"{tokens / seconds:,.0f} new tokens/s",
        f"{texts / seconds:,.1f} texts/s; {texts} texts; {monitor.summary}",
        tokens_per_second=tokens / seconds,
    )


def _generate(
    loaded: Runtime, prompts: Sequence[str], parameters: dict[str, Any], max_seconds: float
) -> tuple[int, int, float]:
    """Return texts, new tokens and seconds; rows enter as others leave, as in a worker."""
    adapter: Any = loaded.adapter
    jobs = jobs_for([{"text": prompt} for prompt in prompts], parameters)
    planner = MicroBatchPlanner([row for encoded in adapter.encode(jobs) for row in rows_of(encoded)], adapter.max_rows)
    texts = tokens = 0
    started = time.perf_counter()
    while time.perf_counter() - started < max_seconds:
        first = planner.next(BUDGET_TOKENS)
        if first is None:
            break

        def fetch(count: int, row: Any = first.rows[0]) -> list[Any]:
            more = planner.next_compatible(row, BUDGET_TOKENS, count)
            return list(more.rows) if more else []

        for finished in adapter.generate(list(first.rows), fetch, adapter.max_rows):
            texts += len(finished)
            tokens += sum(len(ids) for _, sequences in finished for ids in sequences or ())
    return texts, tokens, time.perf_counter() - started
