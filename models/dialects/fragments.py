"""The SQL fragments in which the two dialects differ."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqlFragments:
    """SQL fragments that differ between the dialects.

    Both clocks are the database's own, because workers' clocks may be an hour off.
    """

    now: str
    now_plus_seconds: str  # now + :seconds
    for_update: str
    for_key_update: str  # permits changing a column with a unique index too, such as a batch's key
    skip_locked: str
    in_numbers: str  # is one of :numbers, in any quantity; see `comma_separated`

    def seconds_from_now(self, seconds: float) -> str:
        """SQL for the time `seconds` from now, without a parameter."""
        return self.now_plus_seconds.replace(":seconds", f"{seconds:f}")


SQL_FRAGMENTS = {
    "postgresql": SqlFragments(
        now="clock_timestamp()",
        now_plus_seconds="clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision))",
        for_update="FOR NO KEY UPDATE",  # still allows inserting rows that refer to it
        for_key_update="FOR UPDATE",
        skip_locked="FOR UPDATE SKIP LOCKED",
        in_numbers="= ANY(CAST(string_to_array(:numbers, ',') AS bigint[]))",
    ),
    # SQLite has one writer at a time (BEGIN IMMEDIATE), so no row locks are needed.
    "sqlite": SqlFragments(
        now="strftime('%Y-%m-%d %H:%M:%f', 'now')",
        now_plus_seconds="strftime('%Y-%m-%d %H:%M:%f', 'now', CAST(:seconds AS TEXT) || ' seconds')",
        for_update="",
        for_key_update="",
        skip_locked="",
        in_numbers="IN (SELECT value FROM json_each('[' || :numbers || ']'))",
    ),
}


def comma_separated(values: Iterable[int]) -> str:
    """Join integers into one value for `:numbers`, since one parameter each would exceed the drivers' limits."""
    return ",".join(map(str, values))
