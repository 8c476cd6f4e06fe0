"""Chains of schedules, in which one runs after another."""

from collections.abc import Iterator, Mapping

from models.errors import UsageError
from producer.advice import LIST_SCHEDULES


def check_chain(name: str, after_by_name: Mapping[str, str | None]) -> None:
    """Raise UsageError if a schedule follows one that there is not, or in the end itself.

    name: name of the schedule
    after_by_name: the schedule that each one follows, of all that there are; None = none
    """
    passed = [name]
    while (other := after_by_name[passed[-1]]) is not None:
        if other not in after_by_name:
            raise UsageError(f"schedule {passed[-1]!r}: there is no schedule {other!r} to run after; " + LIST_SCHEDULES)
        if other in passed:
            circle = " → ".join([*passed[passed.index(other) :], other])
            raise UsageError(f"schedule {name!r}: these run after one another in a circle: {circle}; give one a cron")
        passed.append(other)


def leaders_first(after_by_name: Mapping[str, str | None]) -> Iterator[str]:
    """Yield all names, each behind the one that it follows; the chains must have been checked."""
    yielded: dict[str, None] = {}
    for name in after_by_name:
        chain = [name]
        while (other := after_by_name[chain[-1]]) is not None and other in after_by_name:
            chain.append(other)
        for member in reversed(chain):
            if member not in yielded:
                yielded[member] = None
                yield member
