"""The cap on a tenant's unanswered jobs, which new jobs must fit under; see `max_unanswered_jobs` in the settings."""

from collections.abc import Callable

from sqlalchemy import Connection, text

from models.errors import TooManyJobs

RETRY_AFTER_SECONDS = 30.0  # most batches have answered something by then

# Held until the transaction ends, so that two submissions can't take the same room. SQLite has one writer anyway.
LOCK_TENANT = "SELECT pg_advisory_xact_lock(hashtextextended('batchmill.jobs_of_tenant ' || :tenant, 0))"

# Batches that are being cancelled do not count: nothing of them will run.
COUNT_UNANSWERED = """
SELECT coalesce(sum(total - succeeded - failed - cancelled - expired), 0) FROM batches
WHERE tenant = :tenant AND status = 'in_progress'
"""


class JobsNeverFit(TooManyJobs):
    """One batch has more jobs than its tenant may have at any time."""


CapOf = Callable[[str], int | None]  # a tenant's cap, such as `Settings.unanswered_jobs_cap`


def no_cap(_tenant: str) -> None:
    """Let every tenant have any number of jobs."""


def check_room(connection: Connection, tenant: str, cap: int | None, new_jobs: int) -> None:
    """Raise TooManyJobs if a tenant would have more unanswered jobs than its cap.

    cap: None = any number
    new_jobs: those that the transaction is about to add

    To be called before the transaction locks a batch, except one that no submission of the tenant can wait for.
    """
    if cap is None:
        return
    params = {"tenant": tenant}
    if connection.dialect.name == "postgresql":
        connection.execute(text(LOCK_TENANT), params)
    unanswered = int(connection.execute(text(COUNT_UNANSWERED), params).scalar_one())
    if unanswered + new_jobs > cap:
        more = "one more" if new_jobs == 1 else f"{new_jobs:,} more"
        raise TooManyJobs(
            f"tenant {tenant} has {unanswered:,} unanswered jobs and may have {cap:,}, so {more} must wait until some "
            "are answered; or submit fewer at a time",
            RETRY_AFTER_SECONDS,
        )


def check_size(tenant: str, cap: int | None, jobs: int) -> None:
    """Raise JobsNeverFit for a batch that has more unanswered jobs than its tenant may have, before more are stored."""
    if cap is not None and jobs > cap:
        raise JobsNeverFit(
            f"tenant {tenant} may have {cap:,} unanswered jobs, and this batch has more; split it", RETRY_AFTER_SECONDS
        )
