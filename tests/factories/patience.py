"""Limits on time that a busy machine would reach: what happens then is the subject of a few tests, not of others."""

import pytest

from tests.servers import WAIT_TIMEOUT_SECONDS

CHUNKS = "producer.submission.submit.STREAM_CHUNK_SECONDS"  # after which a chunk that is not full is inserted
LIMITS = (
    CHUNKS,
    "producer.dry_run.file_trial.MAX_READ_SECONDS",
    "producer.dry_run.file_trial.MAX_SECONDS",
    "producer.server.native.batches.long_acts.MAX_WAIT_SECONDS",
    "producer.server.native.batches.submission.sample_check.MAX_SECONDS",
    "producer.server.native.operations.checks.MAX_DOCTOR_SECONDS",
    "producer.server.pages.batches.actions.WAIT_SECONDS",
    "producer.server.pages.batches.repairs.WAIT_SECONDS",
    "producer.server.pages.batches.retries.WAIT_SECONDS",
    "producer.server.pages.schedules.backfill.WAIT_SECONDS",
    "producer.uploads.previews.preview.MAX_SECONDS",
)


def be_patient(monkeypatch: pytest.MonkeyPatch, *limits: str) -> None:
    """Raise these limits, or all, for one test, which may lower them again."""
    for limit in limits or LIMITS:
        monkeypatch.setattr(limit, WAIT_TIMEOUT_SECONDS)
