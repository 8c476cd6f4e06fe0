"""Quantizations on a CPU, in turns: processor time, size and distance from float32."""

import json
import logging
import math
import time
from pathlib import Path
from statistics import median
from typing import Any

import structlog

from benchmarks import checkpoints, corpus, inference_loops, options, report
from models.pipelines.pipeline import SAMPLES_FOLDER, Pipeline
from worker.loading import runtime
from worker.loading.runtime import Runtime

TASK = "sentiment-analysis"
ENTRIES: dict[str, dict[str, Any]] = {
    "float32": {},
    "int8": {"quantization": "int8"},
    "torchao-int8": {"quantization": "torchao-int8"},
    "torchao-int8-weights": {"quantization": "torchao-int8-weights"},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, torchao-int8": {"dtype": "bfloat16", "quantization": "torchao-int8"},
    "bfloat16, torchao-int8-weights": {"dtype": "bfloat16", "quantization": "torchao-int8-weights"},
}
LOGITS = {"function_to_apply": "none", "top_k": None}
REVIEWS = 200


def load(folder: Path, fields: dict[str, Any]) -> Runtime:
    """Load a checkpoint with one thread, whose processor time does not count waiting."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return runtime.load(Pipeline(name="bench", task=TASK, model=str(folder), **fields), "cpu", threads=1)


def logits(loaded: Runtime, texts: list[str]) -> list[float]:
    """The logits of all labels of all texts, by label."""
    answers = inference_loops.answer_in_one_thread(loaded, [{"text": text} for text in texts], LOGITS)
    return [label["score"] for answer in answers for label in sorted(answer, key=lambda label: str(label["label"]))]


def distance(values: list[float], expected: list[float]) -> float:
    """The root mean square of the differences."""
    pairs = zip(values, expected, strict=True)
    return math.sqrt(sum((value - other) ** 2 for value, other in pairs) / len(values))


def main() -> None:
    """Print a row for each entry."""
    asked = options.parse_options(__doc__, items=64, distribution=True)
    folder, sample = checkpoints.classifier_folder(), SAMPLES_FOLDER / TASK
    texts = corpus.random_texts(checkpoints.load_tokenizer(folder), asked.items, asked.lengths)
    lines = (SAMPLES_FOLDER / "reviews.jsonl").read_text("utf-8").splitlines()[:REVIEWS]
    reviews = [str(json.loads(line)["text"]) for line in lines]
    loaded = {name: load(folder, fields) for name, fields in ENTRIES.items()}
    expected = logits(load(sample, {}), reviews)
    seconds: dict[str, list[float]] = {name: [] for name in ENTRIES}
    for name in (*ENTRIES, *list(ENTRIES) * asked.rounds):  # the first time warms up
        started = time.process_time()
        logits(loaded[name], texts)
        seconds[name].append(time.process_time() - started)
    rows = [
        (
            name,
            f"{1e3 * median(seconds[name][1:]) / asked.items:.1f}",
            f"{loaded[name].weight_bytes / 1e6:.0f}",
            f"{distance(logits(load(sample, fields), reviews), expected):.4f}",
        )
        for name, fields in ENTRIES.items()
    ]
    title = f"Quantization on a CPU: {asked.items} texts of {asked.lengths} lengths, DistilBERT-base"
    report.print_table(title, ("", "ms of processor time a text", "MB of weights", "distance of logits"), rows)


if __name__ == "__main__":
    main()
