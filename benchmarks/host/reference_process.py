"""The outputs of the row-by-row path, as one hash: each row is encoded, computed and decoded alone.

The argument is the same JSON object as that of `service_process`.
"""

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import structlog

from benchmarks.host.child_process import AnswerStream
from benchmarks.host.instant_model import make_instant
from models.documents import to_json
from models.pipelines.pipeline import Pipeline
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime


def main() -> None:
    """Print the hash as JSON."""
    answers = AnswerStream()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    arguments = json.loads(sys.argv[1])
    loaded = runtime.load(Pipeline(name="bench", task=arguments["task"], model=arguments["model"]), "cpu", threads=1)
    make_instant(loaded.model, arguments["task"])
    digest = hashlib.sha256()
    inputs = [json.loads(line) for line in Path(arguments["inputs"]).read_text("utf-8").splitlines()]
    lease = Lease(1, "reference", 0, len(inputs), 1, 1, parameters=arguments["parameters"])
    for position, document in enumerate(inputs):
        answer = _answer(loaded.adapter, Job(lease, position, document))
        digest.update((answer if isinstance(answer, bytes) else to_json(answer).encode()) + b"\n")
    answers.write({"outputs": digest.hexdigest()})


def _answer(adapter: Any, job: Job) -> Any:
    [rows] = adapter.encode([job])
    if isinstance(rows, Exception):
        raise rows
    return adapter.decode(rows, [adapter.forward(MicroBatch((row,)))[0] for row in rows])


if __name__ == "__main__":
    main()
