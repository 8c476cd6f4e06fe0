"""Compares answers: two of the same input, or one with the shape of the task's example. Pure."""

from collections.abc import Mapping
from typing import Any

from models.tasks.fields import describe_type

# How far numbers of the same input may lie apart, by the dtype of the model: see decision 13 of the design.
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def is_same(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two answers are equal, numbers within a tolerance, which is relative for those above 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(one[name], other[name], tolerance) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            is_same(left, right, tolerance) for left, right in zip(one, other, strict=True)
        )
    if _is_number(one) and _is_number(other):
        return bool(abs(one - other) <= tolerance * max(1.0, abs(one), abs(other)))
    return type(one) is type(other) and bool(one == other)


def shape_problem(output: Any, example: Any, path: str = "the output") -> str | None:
    """Say where an output has another shape than the example; None if it has the same. null fits everything."""
    if output is None or example is None:
        return None
    if isinstance(example, Mapping) and isinstance(output, Mapping):
        if output.keys() != example.keys():
            missing, extra = sorted(example.keys() - output.keys()), sorted(output.keys() - example.keys())
            parts = [f"lacks {', '.join(missing[:5])}"] if missing else []
            parts += [f"also has {', '.join(extra[:5])}"] if extra else []
            return f"{path} {' and '.join(parts)}"
        problems = (shape_problem(output[name], example[name], f"{path}.{name}") for name in example)
        return next(filter(None, problems), None)
    if isinstance(example, list) and isinstance(output, list):
        return shape_problem(output[0], example[0], f"{path}[0]") if output and example else None
    if _is_number(output) and _is_number(example):
        return None
    if type(output) is type(example):
        return None
    return f"{path} is {describe_type(output)}, and {describe_type(example)} in example_output"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
