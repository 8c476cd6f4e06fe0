"""The place of a field in a request, as its client has written it."""

import re
from collections.abc import Sequence

MAX_NAME_CHARACTERS = 80
# Pydantic adds the member of a union that it tried, such as `str` or `literal['failed']`.
UNION_MEMBER = re.compile(r"(str|int|float|bool|(literal|list|dict)\[.*\])", re.DOTALL)


def field_path(location: Sequence[int | str]) -> str:
    """Return the place that an error of pydantic names, such as `metadata.day`."""
    names = [str(part)[:MAX_NAME_CHARACTERS] for part in location]
    return ".".join(name for number, name in enumerate(names) if not number or not UNION_MEMBER.fullmatch(name))
