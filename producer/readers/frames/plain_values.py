"""Values of NumPy and pandas with Python's own types; what pandas holds for a missing value becomes None."""

from typing import Any

MISSING_TYPES = ("NAType", "NaTType")  # of pandas


def plain_value(value: Any) -> object:
    """Return the value with Python's own types, also in lists and objects."""
    # The frequent types first: this runs for every value.
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    if type(value).__name__ in MISSING_TYPES:
        return None
    if hasattr(value, "tolist"):  # an array or a number of NumPy
        return plain_value(value.tolist())
    return value
