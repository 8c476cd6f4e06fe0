from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters

SPEC = tasks.find_spec("ner")


def test_it_has_transformers_other_name() -> None:
    assert tasks.find_spec("token-classification") is SPEC


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"aggregation_strategy": "none"},
        {"aggregation_strategy": None},
        {"aggregation_strategy": "max"},
        {"ignore_labels": None},
        {"ignore_labels": []},
        {"ignore_labels": ["O", "PER"]},
        {"stride": None},
        {"stride": 0},
        {"stride": 8, "aggregation_strategy": "simple"},
        {"stride": None, "aggregation_strategy": "none"},
    ],
)
def test_what_is_given_is_kept(parameters: dict[str, Any]) -> None:
    assert SPEC.check_parameters(parameters) == parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"aggregation_strategy": "best"},
        {"aggregation_strategy": "SIMPLE"},
        {"aggregation_strategy": 3},
        {"ignore_labels": "O"},
        {"ignore_labels": [3]},
        {"ignore_labels": [""]},
        {"ignore_labels": ["\0"]},
        {"ignore_labels": ["a\ud800"]},
        {"ignore_labels": ["x" * 1_001]},
        {"ignore_labels": ["x"] * 1_001},
        {"stride": -1},
        {"stride": "3"},
        {"stride": 1.5},
        {"stride": True},
        {"stride": 100_001},
        {"stride": 3, "aggregation_strategy": "none"},
        {"is_split_into_words": True},
        {"offset_mapping": []},
        {"grouped_entities": True},
    ],
)
def test_anything_else_is_refused_by_name(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters, match=f"{next(iter(parameters))!r}|{next(iter(parameters))}.0"):
        SPEC.check_parameters(parameters)
