"""A producer process that submits, cancels and retries batches until it is killed."""

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import text

from batchmill import Client
from models.db import Database
from models.errors import BatchmillError, Unreachable
from models.states import JobOutcome
from producer.batches.actions import cancel, retry
from producer.batches.actions.retry import RetrySelection
from producer.submission import chunks, submit
from tests.deployment import PIPELINE as REAL
from tests.deployment import WORDS, random_texts

FAKE_PIPELINE, VECTOR_PIPELINE = "soak", "soak-vectors"
FAKE_PIPELINES = (FAKE_PIPELINE, VECTOR_PIPELINE)
MAX_UNANSWERED_JOBS = 20_000
REAL_TEXT_COUNT = 150  # the model computes each of them once alone, for comparison

COUNT_UNANSWERED_JOBS = """
SELECT coalesce(sum(total - succeeded - failed - cancelled - expired), 0) FROM batches WHERE status = 'in_progress'
"""
SELECT_RUNNING_BATCHES = (
    "SELECT id FROM batches WHERE status IN ('in_progress', 'validating') ORDER BY id DESC LIMIT 20"
)
SELECT_BATCHES_WITH_FAILURES = """
SELECT id FROM batches WHERE status IN ('completed', 'failed') AND failed > 0 ORDER BY id DESC LIMIT 40
"""


def real_texts() -> list[str]:
    """Return the inputs of the real model."""
    return random_texts(REAL_TEXT_COUNT, seed=11)


class Producer:
    """Runs actions that its seed selects, one after another."""

    def __init__(self, seed: int, accepted_file: Path) -> None:
        self._rng = random.Random(seed)
        self._accepted_file = accepted_file.open("a")
        self._real_texts = real_texts()
        self._client = Client()

    def run_once(self) -> None:
        """Submit, cancel or retry something; an unreachable server or a refusal is fine."""
        try:
            action = self._rng.choices([self._submit, self._cancel, self._retry], [6, 1, 2])[0]
            action(self._client.database)
        except Unreachable:
            time.sleep(0.5)
        except BatchmillError as error:
            print(f"refused: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        time.sleep(self._rng.uniform(0.05, 0.4))

    def _submit(self, database: Database) -> None:
        if self._query(database, COUNT_UNANSWERED_JOBS)[0] > MAX_UNANSWERED_JOBS:
            return
        options: dict[str, Any] = {}
        if self._rng.random() < 0.15:
            options["on_invalid"] = "fail-row"
        if self._rng.random() < 0.15:
            options["deadline"] = f"{self._rng.uniform(0.5, 6):.1f}s"
        if self._rng.random() < 0.15:
            options["max_failures"] = self._rng.choice([0, 1, 3, "0.5%"])
        pipeline = self._rng.choices([REAL, VECTOR_PIPELINE, FAKE_PIPELINE], [25, 20, 55])[0]
        real = pipeline == REAL
        count = self._rng.randint(50, 400) if real else round(50 * 100 ** self._rng.random())
        inputs = self._inputs(count, real=real, invalid="on_invalid" in options, slow=self._rng.random() < 0.3)
        priority = self._rng.choice([0, 0, 0, 1])
        batch = self._client.submit(pipeline, inputs, priority=priority, **options)
        print(json.dumps({"id": batch.id, "jobs": count}), file=self._accepted_file, flush=True)

    def _inputs(self, count: int, *, real: bool, invalid: bool, slow: bool) -> Iterator[Any]:
        for place in range(count):
            if slow and place % 100 == 0:
                time.sleep(0.05)  # so that a kill interrupts it
            if invalid and self._rng.random() < 0.01:
                yield {"text": 7}
            elif real:
                yield self._rng.choice(self._real_texts)
            else:
                yield " ".join(self._rng.choices(WORDS, k=self._rng.randint(1, 20)))

    def _cancel(self, database: Database) -> None:
        if batch_ids := self._query(database, SELECT_RUNNING_BATCHES):
            cancel.cancel(database, self._rng.choice(batch_ids))

    def _retry(self, database: Database) -> None:
        batch_ids = self._query(database, SELECT_BATCHES_WITH_FAILURES)
        if not batch_ids:
            return
        outcomes = self._rng.choice([(JobOutcome.FAILED,), (JobOutcome.FAILED, JobOutcome.CANCELLED)])
        slice_size = self._client.settings.slice_size
        result = retry.retry_jobs(database, self._rng.choice(batch_ids), RetrySelection(outcomes), slice_size)
        submit.notify_workers(self._client.settings, result.pipeline, result.slices)

    def _query(self, database: Database, query: str) -> list[Any]:
        with database.read() as connection:
            return list(connection.scalars(text(query)))


def main(seed: int, accepted_file: Path) -> None:
    """Run until killed."""
    chunks.CHUNK_JOBS = 300  # so that a batch is in several transactions, and a kill interrupts it
    producer = Producer(seed, accepted_file)
    while True:
        producer.run_once()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
