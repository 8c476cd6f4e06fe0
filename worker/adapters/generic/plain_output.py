"""What a pipeline returns, as JSON: tensors and arrays become lists, tuples too."""

import math
from collections import UserDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers.utils.chat_template_utils import Chat

from models.errors import JobError
from worker.adapters.tasks.job_errors import non_finite_scores

MAX_DEPTH = 64


def to_plain(value: Any, depth: int = 0) -> Any:
    """Return the value as JSON. Raises JobError `invalid_output` for what JSON can't hold."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value)
    if depth >= MAX_DEPTH:
        raise JobError("invalid_output", f"the pipeline gave an answer that is nested over {MAX_DEPTH} deep")
    if isinstance(value, Mapping | UserDict):
        return {_key(key): to_plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner, depth + 1) for inner in value]
    return to_plain(_unwrap(value), depth + 1)


def _unwrap(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Chat):
        return value.messages
    raise _no_json(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise non_finite_scores()
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int | np.integer):
        return str(int(key))
    raise _no_json(key)


def _no_json(value: Any) -> JobError:
    return JobError("invalid_output", f"the pipeline gave a value of type {type(value).__name__}, which no JSON holds")
