"""The backlog of a process: which of its pipelines have slices to claim now.

An idle engine asks every `poll_interval_seconds`, and the pipeline switcher uses the same answer.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, text

from models.db import Database
from models.lifecycle import claim_order
from worker.leasing.leases import Claimant

IS_CLAIMABLE_OF_KIND = f"""
pipeline = kinds.pipeline AND {claim_order.IS_AVAILABLE}
AND (SELECT b.status = 'in_progress' AND b.task = kinds.task
            AND coalesce(b.revision, '') = coalesce(kinds.revision, '')
            AND {claim_order.HAS_KNOWN_GUARDS}
     FROM batches b WHERE b.id = slices.batch_id)
"""  # noqa: S608

SELECT_CLAIMABLE_PIPELINES = """
WITH kinds AS MATERIALIZED (
    SELECT DISTINCT pipeline, task, revision FROM batches WHERE status = 'in_progress' AND pipeline IN :pipelines
)
SELECT pipeline, task, revision FROM kinds WHERE {any_claimable}
"""


class ClaimableWork(NamedTuple):
    """Some slices of this pipeline can be claimed, in batches of this task and revision; None = not set yet."""

    pipeline: str
    task: str
    revision: str | None


class Backlog:
    """The claimable work of a process' pipelines; thread-safe."""

    def __init__(self, database: Database, guards: Mapping[str, Iterable[str]]) -> None:
        """Prepare the queries.

        guards: the names of the guards that this process applies, by pipeline
        """
        self._database = database
        self._guards = {pipeline: tuple(names) for pipeline, names in guards.items()}
        self._latest: tuple[float, Sequence[ClaimableWork]] = (float("-inf"), ())

    def refresh(self) -> Sequence[ClaimableWork]:
        """Query the claimable work; raises Unreachable."""
        work = select_claimable_work(self._database, self._guards)
        self._latest = time.monotonic(), work
        return work

    def recent(self, max_age_seconds: float) -> Sequence[ClaimableWork]:
        """Return the last answer if it is recent enough, else query; raises Unreachable."""
        refreshed_at, work = self._latest
        return work if time.monotonic() - refreshed_at <= max_age_seconds else self.refresh()

    def has_work_for(self, claimant: Claimant) -> bool:
        """Query whether this claimant could claim any slice; raises Unreachable."""
        revisions = (claimant.revision, None) if claimant.can_begin_batches else (claimant.revision,)
        return any(
            (work.pipeline, work.task) == (claimant.pipeline, claimant.task) and work.revision in revisions
            for work in self.refresh()
        )


def select_claimable_work(database: Database, guards: Mapping[str, Iterable[str]]) -> list[ClaimableWork]:
    """Return the claimable work of these pipelines, given with the names of their guards."""
    any_claimable = claim_order.any_queued_slice(IS_CLAIMABLE_OF_KIND.format(now=database.sql.now))
    query = claim_order.bind_guards(text(SELECT_CLAIMABLE_PIPELINES.format(any_claimable=any_claimable))).bindparams(
        bindparam("pipelines", expanding=True)
    )
    keys = [key for pipeline, names in guards.items() for key in claim_order.guard_keys(pipeline, names)]
    with database.statement() as connection:
        rows = connection.execute(query, {"pipelines": list(guards), "guards": keys})
        return [ClaimableWork(*row) for row in rows]
