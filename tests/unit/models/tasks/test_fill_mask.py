from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters

SPEC = tasks.find_spec("fill-mask")


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({}, {}),
        ({"top_k": 1_000}, {"top_k": 1_000}),
        ({"targets": None}, {"targets": None}),
        ({"targets": " great"}, {"targets": [" great"]}),
        ({"targets": ["a", "b"], "top_k": 1}, {"targets": ["a", "b"], "top_k": 1}),
    ],
)
def test_what_is_given_is_kept(parameters: dict[str, Any], kept: dict[str, Any]) -> None:
    assert SPEC.check_parameters(parameters) == kept
    assert SPEC.check_parameters(kept) == kept, "checked twice it stays the same"


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_k": 0},
        {"top_k": -1},
        {"top_k": 1_001},
        {"top_k": "5"},
        {"top_k": None},
        {"top_k": True},
        {"targets": []},
        {"targets": ""},
        {"targets": 3},
        {"targets": [3]},
        {"targets": ["a", ""]},
        {"targets": ["a"] * 1_001},
        {"targets": "x" * 1_001},
        {"targets": "\0"},
        {"targets": ["a\ud800"]},
        {"tokenizer_kwargs": {}},
    ],
)
def test_anything_else_is_refused_by_name(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters, match=f"parameter '?{next(iter(parameters))}|no parameter"):
        SPEC.check_parameters(parameters)
