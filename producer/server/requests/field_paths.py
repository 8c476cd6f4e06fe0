"""The place of a field in a request, as its client has written it, and what is wrong with it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from models.errors import UsageError

MAX_NAME_CHARACTERS = 80
MESSAGE_BY_TYPE = {
    "missing": "it is required",
    "extra_forbidden": "there is no such field here; leave it out",
    # Also what curl's -d sends without a header.
    "model_attributes_type": "it must be a JSON object, sent with the Content-Type application/json",
}
# Pydantic adds the member of a union that it tried, such as `str` or `literal['failed']`.
UNION_MEMBER = re.compile(r"(str|int|float|bool|(literal|list|dict)\[.*\])", re.DOTALL)


def field_path(location: Sequence[int | str]) -> str:
    """Return the place that an error of pydantic names, such as `metadata.day`."""
    names = [str(part)[:MAX_NAME_CHARACTERS] for part in location]
    return ".".join(name for number, name in enumerate(names) if not number or not UNION_MEMBER.fullmatch(name))


def field_message(problem: Mapping[str, Any]) -> str:
    """Return what pydantic finds wrong with a field, without the value, which may be an input."""
    return MESSAGE_BY_TYPE.get(problem["type"], str(problem["msg"]))


def field_error(error: ValidationError) -> UsageError:
    """Return the error that names the first field of a body that is wrong."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = field_path(first["loc"])
    return UsageError(f"{path or 'the body'}: {field_message(first)}", param=path or None)
