"""The place of a field in a request, and what is wrong with it."""

from collections.abc import Sequence

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from producer.server.requests.field_paths import field_error, field_path


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("priority",), "priority"),
        (("metadata", "day"), "metadata.day"),
        (("status", 0), "status.0"),
        (("max_failures", "int"), "max_failures"),
        (("status", "literal['failed','expired']"), "status"),
        (("codes", "list[str]", 3), "codes.3"),
        (("str",), "str"),
        (("x" * 200,), "x" * 80),
        ((), ""),
    ],
)
def test_it_has_no_words_of_pydantic(location: Sequence[int | str], path: str) -> None:
    assert field_path(location) == path


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pipeline: str
    priority: int = 0


@pytest.mark.parametrize(
    ("document", "param", "message"),
    [
        ({}, "pipeline", "pipeline: it is required"),
        ({"pipeline": "a", "colour": "secret"}, "colour", "colour: there is no such field here; leave it out"),
        ({"pipeline": "a", "priority": "secret"}, "priority", "priority: Input should be a valid integer"),
        ([], None, "the body: Input should be a valid dictionary"),
    ],
)
def test_an_error_names_the_field_and_not_its_value(document: object, param: str | None, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(document)

    error = field_error(caught.value)

    assert error.param == param
    assert str(error).startswith(message)
    assert "secret" not in str(error)
