"""The `Accept` header, which says what a client can read."""

import math
import re

WEIGHT = re.compile(r"\s*q\s*=\s*([01](\.\d{0,3})?)\s*", re.IGNORECASE)


def accepted_types(header: str) -> list[str]:
    """Return the media types that a client takes, those that it likes best first; without their parameters."""
    weighted = [(_weight(parameters), name.strip().lower()) for name, *parameters in map(_split, header.split(","))]
    return [name for weight, name in sorted(weighted, key=lambda item: -item[0]) if weight > 0]


def _split(part: str) -> list[str]:
    return part.split(";")


def _weight(parameters: list[str]) -> float:
    matches = (WEIGHT.fullmatch(parameter) for parameter in parameters)
    return math.prod(float(match[1]) for match in matches if match is not None)
