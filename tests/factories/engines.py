"""Engines for tests: the context of a worker process, and a pipeline that is loaded in it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from models.db import Database
from models.settings import Settings
from tests.factories.batch_rows import LEASE_SECONDS, PIPELINE, claimant_for
from tests.servers import WAIT_TIMEOUT_SECONDS
from worker.engine.claim_size import ClaimSizer
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.engine.wakeup import WakeupSignal
from worker.leasing.backlog import Backlog
from worker.leasing.leases import Claimant, HeldLeases
from worker.loading import versions
from worker.loading.runtime import Runtime
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import OnHang
from worker.process.pipeline_switcher import PipelineSwitcher


def fail_test(*_pipeline_and_role: str) -> None:
    """Fail the test, because the engine crashed."""
    pytest.fail("a defect in the engine")


def make_context(
    database: Database,
    *,
    worker_id: str = "worker-1",
    pipelines: Sequence[str] = (PIPELINE,),
    on_fatal_error: Callable[[], None] = fail_test,
    on_hang: OnHang = fail_test,
    **settings: Any,
) -> WorkerContext:
    """Return the context of a worker process with one connection."""
    return WorkerContext(
        worker_id=worker_id,
        device="auto",
        settings=Settings.load(**{"lease_seconds": LEASE_SECONDS, **settings}),
        database=database,
        claim_database=database,
        backlog=Backlog(database, dict.fromkeys(pipelines, ())),
        wakeup_signal=WakeupSignal(),
        held_leases=HeldLeases(),
        on_fatal_error=on_fatal_error,
        on_hang=on_hang,
    )


def make_loaded_pipeline(
    database: Database, runtime: Runtime, claimant: Claimant | None = None, *, max_claim_jobs: int = 200
) -> LoadedPipeline:
    """Return a pipeline whose claims ask for `max_claim_jobs` jobs, and whose token budget is fixed."""
    claim_sizer = ClaimSizer(1000.0, max_claim_jobs)
    claim_sizer.record(max_claim_jobs, 1.0)
    version = runtime.version
    fields = {"task": version.task, "model": version.model, "revision": version.revision}
    return LoadedPipeline(
        runtime=runtime,
        claimant=claimant or claimant_for(**fields),
        version_id=versions.register_version(database, version),
        claim_sizer=claim_sizer,
        token_budget=TokenBudgetTuner(runtime.micro_batch_tokens, tunable=False),
        forward_timeout_seconds=600.0,
    )


def end_switcher(switcher: PipelineSwitcher, wakeup_signal: WakeupSignal) -> None:
    """Stop the switcher, and wait for a load too: it would write to the database of another test."""
    switcher.stop()
    wakeup_signal.close()
    switcher.join()
    if switcher._thread.is_alive():
        switcher._thread.join(WAIT_TIMEOUT_SECONDS)
        assert not switcher._thread.is_alive()
