"""The address and key of a server: from the arguments of a client, or from the environment."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from models.errors import UsageError

API_PATHS = ("v1", "api")  # of the server; OpenAI's clients want the first one in their URL
URL_VARIABLE, KEY_VARIABLE, DATABASE_VARIABLE = "BATCHMILL_URL", "BATCHMILL_API_KEY", "BATCHMILL_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is, without a slash at the end, and the key that it wants; None = no key."""

    url: str
    api_key: str | None = field(default=None, repr=False)


def check_arguments(overrides: Mapping[str, Any], api_key: str | None, *, insecure: bool) -> None:
    """Raise UsageError for arguments of a client that can't go together, whatever the environment says."""
    url = overrides["database_url"]
    if is_server_url(url):
        if overrides["redis_url"] is not None or overrides["home"] is not None:
            raise UsageError("redis_url and home are settings of a database; a server has its own, so leave them out")
        make_address(url, api_key, insecure=insecure)
    elif api_key is not None and any(value is not None for value in overrides.values()):
        raise UsageError("an api_key is for a server; give its URL: Client('https://HOST', api_key=…)")


def find_server(overrides: Mapping[str, Any], api_key: str | None, *, insecure: bool) -> ServerAddress | None:
    """Return the server that a client speaks to; None = it uses a database. Raises UsageError.

    Any argument or setting that names a database wins over BATCHMILL_URL.
    """
    url, has_arguments = overrides["database_url"], any(value is not None for value in overrides.values())
    if not has_arguments:
        url = _find_url_in_environment()
    if url is None or (has_arguments and not is_server_url(url)):
        if api_key is not None:
            raise UsageError("an api_key is for a server; give its URL: Client('https://HOST', api_key=…)")
        return None
    if not is_server_url(url):
        raise UsageError(f"{URL_VARIABLE} must begin with https:// or http://")
    key = os.environ.get(KEY_VARIABLE) or None if api_key is None else api_key
    return make_address(url, key, insecure=insecure)


def is_server_url(url: object) -> bool:
    """Whether a URL is that of a server, and not of a database."""
    return isinstance(url, str) and url.lower().startswith(("http://", "https://"))


def _find_url_in_environment() -> str | None:
    url = os.environ.get(URL_VARIABLE)
    if not url or os.environ.get(DATABASE_VARIABLE):
        return None
    from models.settings import Settings  # only now, because reading batchmill.toml takes longer than all the rest

    return None if Settings.load().database_url else url


def make_address(url: str, key: str | None, *, insecure: bool) -> ServerAddress:
    """Return a checked address; raises UsageError."""
    parts = _split(url)
    if key is not None and not _is_key(key):
        raise UsageError("the API key is not one line of letters and digits; copy it again")
    if key is not None and parts.scheme == "http" and not insecure and not _is_loopback(parts.hostname or ""):
        raise UsageError("over http:// anybody on the way could read the API key; use https://, or insecure=True")
    return ServerAddress(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", key)


def _is_key(key: object) -> bool:
    return isinstance(key, str) and bool(key) and key.isascii() and key.isprintable() and " " not in key


def _split(url: str) -> SplitResult:
    # No message repeats the URL, which may contain a password.
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or any(character.isspace() for character in url):
        raise UsageError("the server's URL can't be read; write https://HOST or https://HOST:PORT")
    if "@" in parts.netloc:
        raise UsageError("the server's URL has a user or password; leave it out, and give the key as api_key")
    if parts.query or parts.fragment:
        raise UsageError("the server's URL has a ? or #; write https://HOST or https://HOST:PORT")
    prefix, _, last = parts.path.rstrip("/").rpartition("/")
    if last in API_PATHS:
        server = f"{parts.scheme}://{parts.netloc}{prefix.rstrip('/')}"
        raise UsageError(f"the server's URL ends with /{last}, which the client adds itself; write {server}")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
