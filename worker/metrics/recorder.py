"""The measurements of a worker process; this recorder drops them, for a process without a metrics port."""

from collections.abc import Iterable, Mapping


class MetricsRecorder:
    """Takes what the engine measures; every duration is in seconds.

    is_enabled: whether anything is kept, so that callers need not compute what nobody reads
    """

    is_enabled = False

    def record_claim(self, pipeline: str, seconds: float, queue_waits: Iterable[float], quarantined: int) -> None:
        """Record a claim that leased slices.

        queue_waits: how long each of them could have been claimed before
        quarantined: how many of them run alone
        """

    def record_micro_batch(self, pipeline: str, seconds: float) -> None:
        """Record one forward pass of the pipeline's model."""

    def record_guard_time(self, pipeline: str, seconds: float) -> None:
        """Record what guards' models took of the device."""

    def record_commit(self, pipeline: str, seconds: float) -> None:
        """Record how long the transaction of a commit took, with its repeats."""

    def record_results(
        self, pipeline: str, succeeded: int, failures: Mapping[str, int], tokens: int, padded_tokens: int
    ) -> None:
        """Record stored results; `failures` counts those that failed by error code."""

    def record_retries(self, pipeline: str, jobs: int) -> None:
        """Record jobs that run again after a backoff."""

    def record_verdicts(self, pipeline: str, verdicts: Mapping[tuple[str, str, str], int]) -> None:
        """Record verdicts, counted by guard, stage and action."""

    def record_batch_end(self, pipeline: str, status: str, deadline_margin: float | None) -> None:
        """Record that a batch has ended so long before its deadline; None = it has none."""

    def record_wakeup(self, seconds: float) -> None:
        """Record how long a wakeup waited until the engine looked at SQL."""

    def record_reclaim(self, requeued: int, split: int, dead_lettered: int) -> None:
        """Record slices that were taken from workers that are gone."""

    def record_exit(self, outcome: str) -> None:
        """Record that a worker process has ended, in its supervisor."""

    def record_load(self, pipeline: str, model: str, revision: str, dtype: str, device: str) -> None:
        """Record the pipeline that is on the device now; it replaces the one before."""

    def record_unload(self) -> None:
        """Record that no pipeline is on the device."""


NO_METRICS = MetricsRecorder()
