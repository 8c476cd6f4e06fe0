"""The filters and the place of a table of rows, as its address has them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.states import JobOutcome
from producer.results.browsing.row_filter import RowFilter, Verdict
from producer.results.browsing.row_pages import Cursor, Order

MAX_CHARACTERS = 1_000  # of a value
MAX_PLACE = 2**62
UNANSWERED = "unanswered"
VERDICTS = {"flagged": Verdict.FLAGGED, "redacted": Verdict.REDACTED, "blocked": Verdict.BLOCKED}
FILTERS = ("outcome", "code", "verdict", "label", "custom_id", "order", "from")


@dataclass(frozen=True, slots=True)
class RowQuery:
    """The values of the form.

    values: those that are set, by name, as they are sent again
    problem: a sentence on a value that can't be used and is left out; None = there is none
    """

    values: Mapping[str, str]
    row_filter: RowFilter
    cursor: Cursor
    problem: str | None = None

    @property
    def custom_id(self) -> str | None:
        """The id to look for; every other filter is left out then."""
        return self.values.get("custom_id")

    @property
    def is_filtered(self) -> bool:
        """Whether rows may be left out."""
        return any(name != "order" for name in self.values)

    def value(self, name: str) -> str:
        """A value of the form; empty if it is not set."""
        return self.values.get(name, "")


def parse(params: Mapping[str, str]) -> RowQuery:
    """Read the parameters of an address; what can't be used is left out, with a sentence."""
    values = {name: value for name in FILTERS if (value := params.get(name, "").strip()[:MAX_CHARACTERS])}
    problems = []
    outcome = values.get("outcome")
    if outcome is not None and outcome not in {*JobOutcome, UNANSWERED}:
        problems.append(f"There is no outcome {values.pop('outcome')!r}.")
        outcome = None
    if (verdict := values.get("verdict")) is not None and verdict not in VERDICTS:
        problems.append(f"There is no verdict {values.pop('verdict')!r}.")
    first = _number(values.get("from"))
    if "from" in values and first is None:
        problems.append(f"A position is a number from 0, and {values.pop('from')!r} is none.")
    if values.get("order") != Order.NEWEST or outcome == UNANSWERED:
        values.pop("order", None)
    row_filter = RowFilter(
        JobOutcome(outcome) if outcome is not None and outcome != UNANSWERED else None,
        outcome == UNANSWERED,
        values.get("code"),
        VERDICTS.get(values.get("verdict", "")),
        values.get("label"),
    )
    return RowQuery(values, row_filter, _cursor(params, values, first), " ".join(problems) or None)


def _cursor(params: Mapping[str, str], values: Mapping[str, str], first: int | None) -> Cursor:
    order = Order.NEWEST if values.get("order") == Order.NEWEST else Order.POSITION
    after, before = _number(params.get("after")), _number(params.get("before"))
    if after is not None:
        return Cursor(order, after)
    if before is not None:
        return Cursor(order, before, is_backward=True)
    if first is not None and order is Order.POSITION and first > 0:
        return Cursor(order, first - 1)
    return Cursor(order)


def _number(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 19:
        return None
    return min(int(value), MAX_PLACE)
