"""The process that loads a pipeline and checks its task; `batchmill tasks check` starts it, and ends it if it hangs.

It writes JSON lines to its standard output: `{"begin": CHECK}`, `{"progress": true}`, and each `CheckResult`. What the
author's code prints goes to standard error.
"""

import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TextIO

from models import log
from models.errors import BatchmillError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from worker.task_checks import checks as all_checks
from worker.task_checks import comparison, memory, target
from worker.task_checks.checks import Checks
from worker.task_checks.report import STACKS_SIGNAL, CheckFailed, CheckResult, CheckSkipped
from worker.task_checks.trial import Trial, describe

LOADING = "loading"
MEMORY = "memory"

Emit = Callable[[dict[str, Any]], None]


def main(name: str, device: str, max_inputs: str, max_seconds: str) -> None:
    """Check the task of a pipeline, and write the results."""
    faulthandler.enable()  # a crash in native code shows where it was called
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as results:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        settings = Settings.load()
        log.configure(settings.model_copy(update={"log_level": "warning"}))
        for result in run(settings, name, device, (int(max_inputs), float(max_seconds)), partial(_emit, results)):
            _emit(results, result.as_dict())


def run(
    settings: Settings, name: str, device: str, memory_limits: tuple[int, float], emit: Emit
) -> Iterator[CheckResult]:
    """Load the pipeline and yield the result of each check.

    memory_limits: as `check_memory` takes them.
    """
    emit({"begin": LOADING})
    try:
        checks, message = _load(settings, name, device)
    except CheckFailed as problem:
        yield CheckResult(LOADING, "failed", str(problem))
        return
    yield CheckResult(LOADING, "ok", message)
    yield from run_loaded(checks, memory_limits, emit)


def run_loaded(checks: Checks, memory_limits: tuple[int, float], emit: Emit) -> Iterator[CheckResult]:
    """As `run`, for a pipeline that is loaded."""
    is_usable = True
    for check, call in all_checks.CHECKS.items():
        emit({"begin": check})
        result = _run_one(check, partial(call, checks))
        yield result
        is_usable = result.outcome != "failed" or check not in all_checks.REQUIRED
        if not is_usable:
            return
    emit({"begin": MEMORY})
    on_progress = partial(emit, {"progress": True})
    yield _run_one(MEMORY, lambda: memory.check_memory(checks, *memory_limits, on_progress))


def _load(settings: Settings, name: str, device: str) -> tuple[Checks, str]:
    """Return the checks of a pipeline that was loaded, and the words for it. Raises CheckFailed."""
    from worker.adapters.own.own_task import OwnTask  # loading torch takes seconds
    from worker.loading import runtime

    pipeline = target.find_pipeline(Catalogue.load(settings), name)
    parameters = target.choose_parameters(pipeline.spec, pipeline.parameters)
    started = time.monotonic()
    try:
        loaded = runtime.load(pipeline, device)
    except BatchmillError as error:
        raise CheckFailed(str(error)) from None
    except Exception as error:  # of the author's code
        raise CheckFailed(describe(error, "loading")) from None
    version, adapter, fault = loaded.version, loaded.adapter, None
    changes: Mapping[str, str] = {}
    if isinstance(adapter, OwnTask):
        adapter.calls.observe()
        changes = adapter.calls.changes
        if adapter.trial_result.without_fault is not None:
            fault = adapter.trial_result.reason
            adapter.ignore_fault()
    trial = Trial(adapter, pipeline.spec, parameters, loaded.micro_batch_tokens)
    tolerance = comparison.TOLERANCES.get(version.dtype, comparison.TOLERANCES["float16"])
    checks = Checks(trial, tolerance, pipeline.deterministic, fault, changes=changes)
    seconds = time.monotonic() - started
    return checks, f"{pipeline.name} (task {pipeline.task}) in {version.dtype} on {version.device}, {seconds:.1f} s"


def _run_one(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, "ok", check())
    except CheckFailed as problem:
        return CheckResult(name, "failed", str(problem))
    except CheckSkipped as reason:
        return CheckResult(name, "skipped", str(reason))


def _emit(results: TextIO, message: dict[str, Any]) -> None:
    results.write(json.dumps(message) + "\n")
    results.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
