from typing import Any

import pytest

from models.errors import InvalidParameters, UsageError
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.submission.request import SubmitRequest

PIPELINE = BUILTIN_PIPELINES[0]


def test_what_is_given_is_kept() -> None:
    request = SubmitRequest.create(
        PIPELINE, parameters={"top_k": 2}, name="reviews", metadata={"team": "toys"}, priority=-5
    )

    assert request.parameters == {"top_k": 2}
    assert (request.name, request.metadata, request.priority) == ("reviews", {"team": "toys"}, -5)


def test_nothing_need_be_given() -> None:
    request = SubmitRequest.create(PIPELINE, name="")

    assert (request.parameters, request.name, request.metadata, request.priority) == ({}, None, {}, 0)


@pytest.mark.parametrize("parameters", [{"top_k": 0}, {"custom_generate": "x"}, {"trust_remote_code": True}])
def test_parameters_are_the_tasks_to_check(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters, match=next(iter(parameters))):
        SubmitRequest.create(PIPELINE, parameters=parameters)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"name": "x" * 201}, "the name has 201 characters"),
        ({"name": "a\0"}, "the name has a NUL"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata has 17 entries"),
        ({"metadata": {"k" * 65: "x"}}, "metadata key has 65"),
        ({"metadata": {"k": "v" * 513}}, "metadata 'k' has 513"),
        ({"metadata": {"k": 3}}, "metadata 'k' must be text"),
        ({"metadata": {"k": "\ud800"}}, "surrogate"),
        ({"priority": 1001}, "priority 1001 is out of range"),
    ],
)
def test_what_cannot_be_kept_is_refused(field: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SubmitRequest.create(PIPELINE, **field)
