"""The place of a field in a request."""

from collections.abc import Sequence

import pytest

from producer.server.requests.field_paths import field_path


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
