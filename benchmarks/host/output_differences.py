"""Outputs beside those of `pipeline()`: the same labels, words and texts, and scores that are nearly equal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

SCORE_TOLERANCE = 1e-5


def find_differences(ours: Sequence[Any], theirs: Sequence[Any]) -> list[tuple[int, Any, Any]]:
    """Return the position and both outputs where ours does not match the other side's; ours may be more."""
    pairs = zip(ours[: len(theirs)], theirs, strict=True)
    return [(position, *pair) for position, pair in enumerate(pairs) if not is_match(*pair)]


def is_match(ours: Any, theirs: Any) -> bool:
    """Whether both have the same shape and text, and numbers within the tolerance.

    A list of one matches its element, because some pipelines unwrap it.
    """
    ours, theirs = _unwrap(ours), _unwrap(theirs)
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(is_match(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(is_match(*pair) for pair in zip(ours, theirs, strict=True))
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=0.0, abs_tol=SCORE_TOLERANCE)
    return bool(ours == theirs)


def _unwrap(value: Any) -> Any:
    return _unwrap(value[0]) if isinstance(value, list) and len(value) == 1 else value
