"""DistilBERT-base: `pipeline()` at five batch sizes, and our loop at three token budgets, in three dtypes."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import checkpoints, corpus
from benchmarks.gpu import geometries
from benchmarks.gpu.measuring import LoopResult, StageContext, jobs_for, run_loop, run_pipeline, watch_gpu

BATCH_SIZES, BUDGETS = (1, 8, 32, 64, 256), (4_096, 16_384, 65_536)
# Lengths and dtypes; even lengths gain little from sorting, so half precision is enough there.
KINDS = (("mixed", "float16"), ("mixed", "float32"), ("mixed", "bfloat16"), ("even", "float16"))
TEXTS, SMOKE_TEXTS, COMPARED = 40_000, 200, 64
WARM_UP_TEXTS = 2_000


def run(context: StageContext) -> None:
    """Record texts per second, where the time goes, and the largest difference of scores from batch size 1."""
    folder = geometries.build_classifier(context)
    for lengths, dtype in (("mixed", "float32"),) if context.smoke else KINDS:
        count = SMOKE_TEXTS if context.smoke else TEXTS
        texts = corpus.random_texts(checkpoints.load_tokenizer(folder), count, lengths)
        _measure(context, folder, texts, f"{lengths} lengths, {dtype}", dtype)
        context.release_memory()


def _measure(context: StageContext, folder: Path, texts: Sequence[str], kind: str, dtype: str) -> None:
    pipe = context.load_pipeline("text-classification", folder, dtype)
    expected = pipe(list(texts[:COMPARED]), batch_size=1, truncation=True)
    for size in (1, 8) if context.smoke else BATCH_SIZES:
        run_pipeline(pipe, texts[:WARM_UP_TEXTS], size, context.seconds / 15, truncation=True)
        pace = run_pipeline(pipe, texts, size, context.seconds / 3, truncation=True)
        context.record(f"pipeline(batch_size={size}), {kind}", pace, texts_per_second=pace)
    del pipe
    loaded = context.load("sentiment-analysis", folder, dtype=dtype)
    jobs = jobs_for([{"text": text} for text in texts])
    for budget in (512,) if context.smoke else BUDGETS:
        run_loop(loaded, jobs[:WARM_UP_TEXTS], budget, context.seconds / 3)
        with watch_gpu(context.device) as monitor:
            result = run_loop(loaded, jobs, budget, context.seconds)
        _record_loop(context, f"our loop at {budget:,} tokens, {kind}", result, expected, monitor.summary)
    packed = getattr(loaded.adapter, "uses_packing", None)
    context.record(f"rows are packed, {kind}", packed)


def _record_loop(
    context: StageContext, what: str, result: LoopResult, expected: Sequence[Mapping[str, Any]], use: str
) -> None:
    answers = [_document(result.outputs[position]) for position in range(len(expected)) if position in result.outputs]
    differences = [abs(ours["score"] - theirs["score"]) for ours, theirs in zip(answers, expected, strict=False)]
    flips = sum(ours["label"] != theirs["label"] for ours, theirs in zip(answers, expected, strict=False))
    labels = sorted(Counter(theirs["label"] for theirs in expected).values(), reverse=True)
    difference = (
        f"scores differ by {max(differences):.1e} at most, {flips} of {len(differences)} labels differ "
        f"(they divide into {' and '.join(map(str, labels))})"
    )
    context.record(
        what,
        round(result.texts_per_second, 1),
        "; ".join(filter(None, (result.shares, use, difference))),
        texts_per_second=result.texts_per_second,
        largest_difference=max(differences),
        label_flips=flips,
    )


def _document(output: Any) -> Any:
    if isinstance(output, Exception):
        raise output
    return json.loads(output) if isinstance(output, str) else output
