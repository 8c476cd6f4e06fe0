"""Turns: in which order queued slices are claimed. One index holds that order, so a claim reads only what it takes.

A slice carries the order's key, copied from its batch by triggers of the database: `rank` is the batch's priority, the
highest first; `due` its deadline and `since` its beginning, in milliseconds; `ahead` counts the batch's jobs that are
served before this slice. So the slice with the least `ahead` is the next of the batch that was served least.
"""

# After so many deaths, or ends in silence, of workers that ran it, a slice runs alone: it is quarantined.
QUARANTINE_AFTER_CRASHES = 2
QUARANTINE_AFTER_LOST_LEASES = 5

NO_DEADLINE = 9_223_372_036_854_775_807  # `due` of a batch without a deadline

CLAIM_ORDER_COLUMNS = ("rank", "due", "ahead", "since", "id")  # behind the pipeline

# Written out, as the predicates of the indexes are: with parameters in it no planner would find them.
QUEUED_ORDINARY = (
    f"state = 'queued' AND deaths < {QUARANTINE_AFTER_CRASHES} AND lapses < {QUARANTINE_AFTER_LOST_LEASES}"
)
QUEUED_QUARANTINED = (
    f"state = 'queued' AND (deaths >= {QUARANTINE_AFTER_CRASHES} OR lapses >= {QUARANTINE_AFTER_LOST_LEASES})"
)


# EXISTS would become a join over all slices.
ANY_SLICE = "(SELECT 1 FROM slices WHERE {which} AND {condition} LIMIT 1) IS NOT NULL"


def any_queued_slice(condition: str) -> str:
    """A condition: whether any queued slice meets this one. The first that does ends the search."""
    return " OR ".join(
        ANY_SLICE.format(which=which, condition=condition) for which in (QUEUED_ORDINARY, QUEUED_QUARANTINED)
    )
