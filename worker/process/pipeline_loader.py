"""The pipeline loader puts a pipeline on the device and records the outcome in SQL: ready, or why not."""

import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import structlog

from models.errors import BatchmillError, DatabaseRefused, LoadFailed, ModelError, Unreachable
from models.pipelines.output_settings import guard_definitions
from models.pipelines.pipeline import Pipeline
from models.states import WorkerState
from worker.engine.claim_size import ClaimSizer, default_max_jobs
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.leasing.leases import Claimant
from worker.leasing.load_problems import load_failures
from worker.leasing.load_problems.load_backoff import LoadBackoff
from worker.leasing.load_problems.peer_watch import PeerWatch
from worker.leasing.retry import retry_while_unreachable
from worker.loading import load_errors, model_cache, versions
from worker.loading.model_cache import ModelCache
from worker.loading.versions import RuntimeVersion
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog
from worker.process.heartbeat import Heartbeat
from worker.process.switch_policy import LoadTarget
from worker.process_device import row_name

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)

BYTES_PER_GIGABYTE = 1e9

RuntimeLoader = Callable[[Pipeline], "Runtime"]
LoadCheck = Callable[[Pipeline], BatchmillError | None]


class PipelineLoader:
    """Loads pipelines for one process, and keeps unloaded ones in memory while there is room.

    backoff: when a pipeline that failed to load may be tried again.
    is_loading: whether `load` is running; it may take minutes.
    """

    def __init__(
        self,
        context: WorkerContext,
        heartbeat: Heartbeat,
        load_runtime: RuntimeLoader,
        check: LoadCheck = lambda _pipeline: None,
    ) -> None:
        self.backoff = LoadBackoff(Random())  # noqa: S311 - jitter keeps no secret
        self.is_loading = False
        self._loading_name = ""
        self._context = context
        self._heartbeat = heartbeat
        self._load_runtime = load_runtime
        self._check = check
        self._peers = PeerWatch(context.settings.lease_seconds, heartbeat.contact.seconds)
        self._model_cache = ModelCache(context.settings.model_cache_gb * BYTES_PER_GIGABYTE)
        self._watchdog = Watchdog(context.settings.load_timeout_seconds, self._report_hang)
        self._kept_model: Any = None  # whose shared weights the next pipeline takes
        self._claim_sizers: dict[str, ClaimSizer] = {}
        self._saved_token_budgets: dict[str, int | None] = {}

    def start(self) -> None:
        """Watch the duration of loads from now on."""
        self._watchdog.start()

    def stop(self) -> None:
        """Stop watching."""
        self._watchdog.stop()

    def restore_backoff(self) -> None:
        """Restore the backoff of loads that crashed an earlier process, so that other pipelines load first."""
        context, now = self._context, time.monotonic()
        failures = retry_while_unreachable(
            lambda _is_retry: load_failures.failures_for_seat(context.database, context.worker_id)
        )
        for name, (attempts, seconds) in failures.items():
            self.backoff.restore(LoadTarget(name), attempts, now + seconds)

    def find_problem(self, target: LoadTarget, pipeline: Pipeline) -> BatchmillError | None:
        """Return an error that is known before anything is loaded; None = load it to find out."""
        return None if target in self._model_cache else self._check(pipeline)

    def load(self, target: LoadTarget, pipeline: Pipeline) -> "Runtime":
        """Return the runtime from memory or from its files. Raises only BatchmillErrors."""
        self.is_loading = True
        try:
            self._loading_name = pipeline.name
            self._record_state(WorkerState.LOADING, pipeline)
            with self._watchdog.watch():
                if self._kept_model is None:
                    self._model_cache.offload_shared()
                runtime = self._model_cache.pop(target) or self._load_runtime(pipeline)
            if target.revision not in (None, runtime.version.batch_revision):
                raise LoadFailed(f"{pipeline.model} came as {runtime.version.batch_revision}, not as {target.revision}")
            return runtime
        except KeyboardInterrupt:
            raise
        except SystemExit as error:  # it would end this thread, and leave the worker as loading
            raise LoadFailed(f"{pipeline.name} can't be loaded: code of it called sys.exit; correct it") from error
        except BaseException as error:  # a panic in a library written in Rust is no Exception
            problem = load_errors.classify(error, pipeline.model)
            if problem is error:
                raise  # with its cause, which tells whether the device is lost
            raise problem from error
        finally:
            self.is_loading, self._kept_model = False, None

    def prepare(self, target: LoadTarget, pipeline: Pipeline, runtime: "Runtime") -> LoadedPipeline:
        """Register the loaded version and those of the guards, and record that this worker is ready."""
        self.backoff.record_success(target)
        model_cache.freeze_gc()
        context, version = self._context, runtime.version
        settings, database = context.settings, context.database
        for guard in runtime.guards.values():
            self._register_version(guard.version)
        version_id = self._register_version(version)
        saved_budget = retry_while_unreachable(
            lambda _is_retry: versions.load_token_budget(database, pipeline.name, version)
        )
        self._saved_token_budgets[pipeline.name] = saved_budget
        tokens = saved_budget if saved_budget and runtime.tunable else runtime.micro_batch_tokens
        max_jobs = settings.max_claim_jobs or default_max_jobs(version.device)
        new_sizer = ClaimSizer(settings.target_claim_seconds, max_jobs)
        loaded = LoadedPipeline(
            runtime,
            Claimant(
                context.worker_id,
                pipeline.name,
                pipeline.task,
                version.model,
                version.batch_revision,
                settings.lease_seconds,
                can_begin_batches=target.revision is None,
                guards=pipeline.guards,
            ),
            version_id,
            self._claim_sizers.setdefault(pipeline.name, new_sizer),
            TokenBudgetTuner(tokens, tunable=runtime.tunable, max_tokens=runtime.max_micro_batch_tokens),
            pipeline.pass_seconds or settings.forward_timeout_seconds,
            {
                name: guard.pass_seconds or settings.forward_timeout_seconds
                for name, guard in pipeline.guard_pipelines.items()
            },
            guard_definitions(pipeline),
        )
        retry_while_unreachable(lambda _is_retry: self._record_ready(loaded.claimant, version.device))
        return loaded

    def _register_version(self, version: RuntimeVersion) -> int:
        database = self._context.database
        return retry_while_unreachable(lambda _is_retry: versions.register_version(database, version))

    def _report_hang(self) -> None:
        self._context.on_hang(self._loading_name, "pipeline")

    def unload(self, target: LoadTarget, loaded: LoadedPipeline, *, keeps_shared: bool = False) -> None:
        """Take the pipeline off the device, into memory if there is room.

        keeps_shared: keep the weights that the next pipeline shares where they are, until it is loaded.
        """
        self._kept_model = loaded.runtime.model if keeps_shared else None
        self._model_cache.put(target, loaded.runtime, keeps_shared=keeps_shared)

    def save_token_budget(self, loaded: LoadedPipeline) -> None:
        """Save the tuned token budget for the next process."""
        name, tokens = loaded.claimant.pipeline, loaded.token_budget.tokens
        if loaded.runtime.tunable and tokens != self._saved_token_budgets.get(name):
            try:
                versions.save_token_budget(self._context.database, name, loaded.runtime.version, tokens)
            except Unreachable as error:
                log.warning("token_budget.save_failed", pipeline=name, micro_batch_tokens=tokens, error=str(error))

    def handle_failure(
        self,
        target: LoadTarget,
        pipeline: Pipeline,
        error: BatchmillError,
        load_seconds: float,
        *,
        is_other_loaded: bool = False,
    ) -> None:
        """Record the failure, delay the next try, and fail the batches that no worker can serve.

        is_other_loaded: whether another pipeline is on the device, which works on.
        """
        attempts, pause, is_new = self.backoff.record_failure(target, str(error), time.monotonic(), load_seconds)
        cause = error.__cause__
        log.error(
            "model.load_failed",
            pipeline=target.pipeline,
            error_code=error.code,
            error=str(error),
            attempts=attempts,
            retry_seconds=round(pause, 1),
            exc_info=cause if is_new and not isinstance(cause, BatchmillError) else None,
        )
        if not is_other_loaded:
            self._record_state(WorkerState.IDLE, pipeline)
        try:
            self._record_failure(pipeline, error, pause)
        except (DatabaseRefused, Unreachable) as refused:
            log.warning("load_failure.save_failed", pipeline=target.pipeline, error=str(refused))
        model_cache.release_memory()

    def _record_failure(self, pipeline: Pipeline, error: BatchmillError, retry_seconds: float) -> None:
        database, location = self._context.database, self._context.location
        load_failures.record(database, location, pipeline.name, pipeline.model, error, retry_seconds)
        if isinstance(error, ModelError):
            for batch_id in load_failures.fail_unservable_batches(database, location, pipeline, error, self._peers):
                log.error("batch.ended", batch_id=batch_id, status="failed", error_code=error.code, error=str(error))

    def _record_state(self, state: WorkerState, pipeline: Pipeline) -> None:
        try:
            self._heartbeat.record_state(state, self._context.worker_id, pipeline, self._context.device)
        except (DatabaseRefused, Unreachable) as error:
            log.warning("worker.update_failed", state=state.value, error=str(error))

    def _record_ready(self, claimant: Claimant, device: str) -> None:
        self._heartbeat.record_ready(claimant, row_name(self._context.device, device))
        with self._context.database.write() as connection:
            load_failures.clear(connection, claimant.worker_id, claimant.pipeline)
