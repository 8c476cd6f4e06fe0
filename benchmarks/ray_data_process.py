"""Ray Data's `map_batches` with the pipeline, as in its documentation; imports nothing of Batchmill.

Reads a JSON request from standard input. Prints the seconds from the first batch's start to the last one's end, which
excludes starting Ray and loading the model.
"""

import json
import sys
import time
from typing import Any

import ray


class Predictor:
    """The actor that holds the model."""

    def __init__(self, model: str, threads: int, batch_size: int) -> None:
        import torch
        from transformers import pipeline

        torch.set_num_threads(threads)
        self._batch_size = batch_size
        self._pipeline = pipeline("sentiment-analysis", model=model, device="cpu")
        self._pipeline(["a text to warm up with"] * batch_size, batch_size=batch_size)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer one batch and record the time."""
        began = time.time()
        answers = self._pipeline(list(batch["item"]), batch_size=self._batch_size, truncation=True)
        ended = time.time()
        return {
            "label": [answer["label"] for answer in answers],
            "score": [answer["score"] for answer in answers],
            "began": [began] * len(answers),
            "ended": [ended] * len(answers),
        }


def main() -> None:
    """Answer one request."""
    asked = json.load(sys.stdin)
    threads = asked["threads"]
    ray.init(
        num_cpus=threads,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
    )
    answers = (
        ray.data.from_items(asked["texts"])
        .map_batches(
            Predictor,
            batch_size=asked["batch_size"],
            concurrency=1,
            num_cpus=1,
            fn_constructor_args=(asked["model"], threads, asked["batch_size"]),
        )
        .take_all()
    )
    assert len(answers) == len(asked["texts"])
    print(json.dumps(max(row["ended"] for row in answers) - min(row["began"] for row in answers)))


if __name__ == "__main__":
    main()
