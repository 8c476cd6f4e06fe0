from typing import Any

import pytest

from models.errors import InvalidParameters, UsageError
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.submission.request import FailureLimit, SubmitRequest

PIPELINE = BUILTIN_PIPELINES[0]


def test_given_fields_are_kept() -> None:
    request = SubmitRequest.create(
        PIPELINE, parameters={"top_k": 2}, name="reviews", metadata={"team": "toys"}, priority=-5
    )

    assert request.parameters == {"top_k": 2}
    assert (request.name, request.metadata, request.priority) == ("reviews", {"team": "toys"}, -5)


def test_every_field_has_a_default() -> None:
    request = SubmitRequest.create(PIPELINE, name="")

    assert (request.parameters, request.name, request.metadata, request.priority) == ({}, None, {}, 0)


@pytest.mark.parametrize("parameters", [{"top_k": 0}, {"custom_generate": "x"}, {"trust_remote_code": True}])
def test_the_task_validates_the_parameters(parameters: dict[str, Any]) -> None:
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
def test_invalid_fields_are_rejected(field: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SubmitRequest.create(PIPELINE, **field)


@pytest.mark.parametrize(
    ("value", "of_200"), [("0", 0), ("20", 20), ("2.5%", 5), ("0%", 0), ("100%", 200), ("0.4%", 0)]
)
def test_a_failure_limit_is_a_number_or_a_share_of_jobs(value: str, of_200: int) -> None:
    assert FailureLimit.parse(value).count_for(200) == of_200


@pytest.mark.parametrize("value", ["", "-1", "101%", "2.5", "%", "many", "1e3", "9" * 30])
def test_other_failure_limits_are_rejected(value: str) -> None:
    with pytest.raises(UsageError, match="max_failures"):
        FailureLimit.parse(value)
