"""Errors of single jobs that several adapters share."""

from collections.abc import Callable
from typing import Any, ParamSpec

from models.errors import JobError
from worker.adapters.output_json import to_valid_json
from worker.adapters.rows import Row

P = ParamSpec("P")


def non_finite_scores() -> JobError:
    """The error of a job for which the model computed NaN or infinite scores."""
    return JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")


def non_finite_vector() -> JobError:
    """The same of a vector; its numbers are no scores."""
    return JobError("invalid_output", "the model gave a vector of numbers that are not finite; try dtype float32")


def input_too_long(size: str, limit: int | None, advice: str = "cut it") -> JobError:
    """The error of an input with more tokens than the limit, where cutting it is not allowed.

    size: the input's size, such as "900 tokens".
    """
    return JobError("input_too_long", f"{size}; this pipeline takes {limit:,}; {advice}")


def rows_or_error(make_rows: Callable[P, list[Row]], *args: P.args, **kwargs: P.kwargs) -> list[Row] | JobError:
    """The rows of one job, or the JobError that making them raised."""
    try:
        return make_rows(*args, **kwargs)
    except JobError as error:
        return error


def output_or_error(decode: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> str | Exception:
    """What an adapter's `decode` returns, as JSON, or the exception that it raises."""
    try:
        return to_valid_json(decode(*args, **kwargs))
    except Exception as error:
        return error
