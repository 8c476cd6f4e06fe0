"""Settings that are lists: in the environment they are words between commas or blanks."""

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def _split_words(raw_value: Any) -> Any:
    """Split a list from the environment at commas and blanks, or parse it as JSON."""
    if not isinstance(raw_value, str):
        return raw_value
    return (
        json.loads(raw_value)
        if raw_value.lstrip().startswith("[")
        else [word for word in re.split(r"[,\s]+", raw_value) if word]
    )


WordList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words)]
FolderList = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_words)]


def is_network(address: str) -> bool:
    """Whether this is an IP address or a network such as `10.0.0.0/8`."""
    try:
        ipaddress.ip_network(address, strict=False)
    except ValueError:
        return False
    return True
