"""Rows of activity of earlier minutes, as workers would have written them."""

from models.db import Database
from tests.factories.batch_rows import execute
from worker.leasing import activity
from worker.leasing.usage import ComputedWork


def add_minute(database: Database, work: ComputedWork, *, worker_id: str = "worker-1", age_minutes: int = 0) -> None:
    """Add work as if it had been committed some minutes ago."""
    with database.write() as connection:
        activity.add_activity(connection, [work], f"{worker_id}-{age_minutes}-new")
    execute(
        database,
        "UPDATE activity SET minute = minute - :age, worker_id = :worker_id WHERE worker_id = :new",
        age=age_minutes,
        worker_id=worker_id,
        new=f"{worker_id}-{age_minutes}-new",
    )


def work(pipeline: str, succeeded: int = 0, *failures: tuple[str, int], tenant: str = "default") -> ComputedWork:
    """Work with two tokens a job and a millisecond each."""
    jobs = succeeded + sum(count for _, count in failures)
    return ComputedWork(tenant, pipeline, succeeded, jobs - succeeded, 2 * jobs, 3 * jobs, jobs / 1000, failures)
