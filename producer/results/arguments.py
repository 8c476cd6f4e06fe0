"""Arguments of exports: the statuses of results, and the packages that some formats need."""

import importlib.util
import operator
from collections.abc import Iterable

from models.errors import UsageError
from models.states import JobOutcome

MAX_SEQ = 2**63 - 1


def parse_statuses(status: str | Iterable[str] | None) -> tuple[JobOutcome, ...]:
    """Return the outcomes that a status or several name; none for None. Raises UsageError."""
    names = [status] if isinstance(status, str) else () if status is None else status
    try:
        return tuple(dict.fromkeys(map(JobOutcome, names)))
    except (TypeError, ValueError):
        raise UsageError(f"a result's status is one of {', '.join(JobOutcome)}", param="status") from None


def check_cursor(after: int) -> int:
    """Return the `seq` after which results are read; raises UsageError for what can be none."""
    try:
        seq = operator.index(after)
    except TypeError:
        seq = -1
    if not 0 <= seq <= MAX_SEQ:
        raise UsageError("after is the seq of a result, a whole number; 0 reads from the start")
    return seq


def require_packages(*names: str) -> None:
    """Raise UsageError with the command that installs them, if some of these packages are missing."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        command = f"pip install -c constraints.txt {' '.join(missing)}"
        raise UsageError(f"this needs {' and '.join(missing)}; in the checkout, run: {command}")
