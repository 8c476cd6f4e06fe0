"""Turns: in which order queued slices are claimed. One index holds that order, so a claim reads only what it takes.

A slice carries the order's key, copied from its batch by triggers of the database: `rank` is the batch's priority, the
highest first; `due` its deadline and `since` its beginning, in milliseconds; `ahead` counts the batch's jobs that are
served before this slice. So the slice with the least `ahead` is the next of the batch that was served least.
"""

# After so many deaths, or ends in silence, of workers that ran it, a slice runs alone: it is quarantined.
SUSPECT_DEATHS = 2
SUSPECT_LAPSES = 5

NEVER = 9_223_372_036_854_775_807  # `due` of a batch without a deadline

KEY = ("rank", "due", "ahead", "since", "id")  # behind the pipeline

# Written out, as the predicates of the indexes are: with parameters in it no planner would find them.
ORDINARY = f"state = 'queued' AND deaths < {SUSPECT_DEATHS} AND lapses < {SUSPECT_LAPSES}"
QUARANTINED = f"state = 'queued' AND (deaths >= {SUSPECT_DEATHS} OR lapses >= {SUSPECT_LAPSES})"


# EXISTS would become a join over all slices.
ANY = "(SELECT 1 FROM slices WHERE {which} AND {condition} LIMIT 1) IS NOT NULL"


def any_queued(condition: str) -> str:
    """A condition: whether any queued slice meets this one. The first that does ends the search."""
    return " OR ".join(ANY.format(which=which, condition=condition) for which in (ORDINARY, QUARANTINED))
