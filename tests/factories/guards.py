"""Guards for tests: a made-up guard model that looks for words, and screeners with it."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import structlog

from models.guards.definition import Guard, Stage
from tests.factories.batch_rows import MODEL_VERSION
from worker.adapters.interface import DecodableJob
from worker.adapters.rows import MicroBatch, Row
from worker.guards.loaded_guards import LoadedGuards
from worker.guards.screener import Screener
from worker.leasing.leases import Job
from worker.loading.runtime import Runtime

GUARD_PIPELINE = "injections"
GUARD_REVISION = "b" * 40
LABEL = "INJECTION"
MODEL_GUARD = Guard(on="input", action="fail", pipeline=GUARD_PIPELINE, label=LABEL, threshold=0.5)
TOKENS_PER_WINDOW = 4


class FakeGuardAdapter:
    """A classifier whose windows of four words are injections if they have the word `ignore`.

    before_forward: called before each pass; it may raise.
    texts: windows of each successful pass.
    """

    max_rows = 8

    def __init__(self) -> None:
        self.before_forward: Callable[[MicroBatch], None] = lambda _batch: None
        self.should_interrupt: Callable[[], bool] = lambda: False
        self.texts: list[list[str]] = []

    def encode(self, jobs: Sequence[Job]) -> list[list[Row]]:
        return [self._encode_text(job) for job in jobs]

    def _encode_text(self, job: Job) -> list[Row]:
        words = job.input["text"].split()
        windows = [words[start : start + TOKENS_PER_WINDOW] for start in range(0, len(words), TOKENS_PER_WINDOW)]
        return [
            Row(job, " ".join(window), len(window), truncated=False, part_index=index, part_count=len(windows))
            for index, window in enumerate(windows)
        ]

    def forward(self, batch: MicroBatch) -> list[float]:
        self.before_forward(batch)
        if any("unreadable" in row.features for row in batch.rows):
            raise RuntimeError("this text is a secret")
        self.texts.append([row.features for row in batch.rows])
        return [0.9 if "ignore" in row.features else 0.1 for row in batch.rows]

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str]:
        for _, [score] in jobs:
            yield json.dumps([{"label": LABEL, "score": score}, {"label": "SAFE", "score": 1 - score}])


def guard_runtime(adapter: FakeGuardAdapter, tokens: int = 1_000) -> Runtime:
    """The runtime of the made-up guard pipeline."""
    version = replace(MODEL_VERSION, model="made/guard", revision=GUARD_REVISION)
    model: Any = SimpleNamespace(config=SimpleNamespace(num_labels=2))
    return Runtime(adapter, version, tokens, model, None, 1, 0)  # type: ignore[arg-type]


def load_guards(
    guards: Mapping[str, Guard], adapter: FakeGuardAdapter | None = None, tokens: int = 1_000
) -> LoadedGuards:
    """Load these guards; those with a model use this adapter."""
    runtimes = {} if adapter is None else {GUARD_PIPELINE: guard_runtime(adapter, tokens)}
    return LoadedGuards(guards, {}, runtimes, dict.fromkeys(runtimes, 600.0), list, structlog.get_logger())


def make_screener(
    guards: Mapping[str, Guard],
    adapter: FakeGuardAdapter | None = None,
    stage: Stage = "input",
    *,
    tokens: int = 1_000,
    should_stop: Callable[[], bool] = lambda: False,
    label_fields: Collection[str] = (),
) -> Screener:
    """A screener with these guards."""
    return load_guards(guards, adapter, tokens).screener(stage, should_stop, label_fields)
