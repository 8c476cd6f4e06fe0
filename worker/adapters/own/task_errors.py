"""What fails a job when the code of a task's author raises, or returns what it must not."""

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from models.errors import JobError
from models.tasks.own.input_fields import checked_job_error
from worker.adapters.interface import Interrupted
from worker.adapters.own.error_place import error_place
from worker.failures import is_machine_problem
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TASK_ERROR = "task_error"


class EndingRaised(Exception):
    """An author's method raised what would end a thread of the engine, such as SystemExit or a panic of Rust code.

    Each is raised as a subclass with the name of what was raised.
    """


def call_author(method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a method of an author, and return what it returns. Raises what it raises, and EndingRaised."""
    try:
        return method(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        # Ctrl-C reaches the main thread only, which runs no adapter in a worker, but does in a check.
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        name = type(error).__name__
        ending = type(name, (EndingRaised,), {})
        raise ending(f"the code raised {name}; correct it").with_traceback(error.__traceback__) from None


class TaskErrors:
    """Makes the errors of one task. What an exception says is never shown or logged, because it may quote an input."""

    def __init__(self, task: str, pipeline: str | None) -> None:
        self._task, self._pipeline = task, pipeline

    def wrong(self, method: str, problem: str) -> JobError:
        """The error for what a method returned."""
        return JobError(TASK_ERROR, f"{method} of task {self._task} {problem}; the task's author can mend it")

    def raised(self, method: str, error: Exception, job: Job) -> Exception:
        """The error of a job for what a method raised: a JobError, or a problem of the machine as it is."""
        if isinstance(error, JobError):
            return checked_job_error(error, self._task)
        if isinstance(error, Interrupted) or is_machine_problem(error):
            return error
        kind, place = type(error).__name__, error_place(error)
        log.warning(
            "task.failed",
            pipeline=self._pipeline,
            task=self._task,
            method=method,
            batch_id=job.lease.batch_id,
            position=job.position,
            error=kind,
            place=place,
        )
        return self.wrong(method, f"raised {kind}" + (f" at {place}" if place else ""))
