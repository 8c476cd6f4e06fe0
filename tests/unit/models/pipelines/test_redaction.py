"""Redaction keeps what names a choice, and hides what a person has written."""

from typing import Any

import pytest

from models.pipelines import redaction


@pytest.mark.parametrize("name", ["query", "Retrieval-query", "s2p_query", "retrieval.passage", "n" * 64])
def test_the_name_of_a_prompt_is_shown(name: str) -> None:
    assert redaction.redact_parameters({"prompt_name": name}) == {"prompt_name": name}


@pytest.mark.parametrize(
    "parameters",
    [
        {"prompt_name": "Anna Meier's diagnosis"},
        {"prompt_name": "query: "},
        {"prompt_name": "query\n"},
        {"prompt_name": "n" * 65},
        {"prompt_name": ["query"]},
        {"stop_strings": "query"},
    ],
)
def test_other_text_is_a_hash(parameters: dict[str, Any]) -> None:
    [value] = redaction.redact_parameters(parameters).values()

    assert value.startswith("sha256:")
