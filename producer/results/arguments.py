"""Arguments of exports: the statuses of results, and the packages that some formats need."""

import importlib.util
from collections.abc import Iterable

from models.errors import UsageError
from models.states import JobOutcome


def parse_statuses(status: str | Iterable[str] | None) -> tuple[JobOutcome, ...]:
    """Return the outcomes that a status or several name; none for None. Raises UsageError."""
    names = [status] if isinstance(status, str) else () if status is None else status
    try:
        return tuple(dict.fromkeys(map(JobOutcome, names)))
    except (TypeError, ValueError):
        raise UsageError(f"a result's status is one of {', '.join(JobOutcome)}") from None


def require_packages(*names: str) -> None:
    """Raise UsageError with the command that installs them, if some of these packages are missing."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        command = f"pip install -c constraints.txt {' '.join(missing)}"
        raise UsageError(f"this needs {' and '.join(missing)}; in the checkout, run: {command}")
