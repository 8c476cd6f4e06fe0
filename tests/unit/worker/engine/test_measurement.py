"""What a commit counts: results that were stored, and nothing of slices that were lost."""

from collections.abc import Mapping

from models.guards.definition import Guard
from models.guards.verdict import Verdict
from models.states import JobOutcome
from worker.engine import measurement
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.leasing.leases import Lease
from worker.leasing.usage import ComputedWork
from worker.metrics.recorder import MetricsRecorder

KEPT, LOST = Lease(1, "b", 0, 1, 1, 1), Lease(2, "b", 1, 1, 1, 1)
GUARDS = {"pii": Guard(on="input", action="fail", pattern="x")}


class Recorder(MetricsRecorder):
    """Keeps failures and verdicts."""

    is_enabled = True

    def __init__(self) -> None:
        self.failures: Mapping[str, int] = {}
        self.verdicts: Mapping[tuple[str, str, str], int] = {}

    def record_results(
        self, pipeline: str, succeeded: int, failures: Mapping[str, int], tokens: int, padded_tokens: int
    ) -> None:
        self.failures = failures

    def record_verdicts(self, pipeline: str, verdicts: Mapping[tuple[str, str, str], int]) -> None:
        self.verdicts = verdicts


def test_nothing_of_a_lost_slice_counts() -> None:
    verdicts = (Verdict("pii", "input", "fail"),)
    results = [
        JobResult(lease, lease.start_position, JobOutcome.FAILED, error_code="guard_blocked", verdicts=verdicts)
        for lease in (KEPT, LOST)
    ]
    planned = BatchCommit((KEPT, LOST), results, guards=GUARDS)
    work = ComputedWork("t", "p", succeeded=0, failed=1, tokens=0, padded_tokens=0, device_seconds=0.0)
    recorder = Recorder()

    measurement.record_commit(recorder, "p", planned, CommitResult(1, frozenset({LOST.slice_id}), None, work))

    assert recorder.failures == {"guard_blocked": 1}
    assert recorder.verdicts == {("pii", "input", "fail"): 1}
