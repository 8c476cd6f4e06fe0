"""URLs in settings are checked before anything is connected or written; no message repeats a URL and its password.

Redis' is read later by kombu, and the database's by SQLAlchemy, whose own complaints come late and quote what they got.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

REDIS_SCHEMES, SOCKET_SCHEMES = ("redis", "rediss"), ("unix", "redis+socket")
DATABASE_SCHEMES = ("postgresql", "postgres", "sqlite")
ESCAPES = "in a password write / as %2F, # as %23, ? as %3F, @ as %40, : as %3A and % as %25"
CERTIFICATES = ("required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE")
TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
SOCKET_OPTIONS = ("virtual_host",)


def check_redis(url: str) -> None:
    """Raise ValueError with a sentence where kombu and redis-py could not connect by this URL."""
    parts = _split(url)
    if parts.scheme not in (*REDIS_SCHEMES, *SOCKET_SCHEMES):
        raise ValueError("it must begin with redis://, rediss:// or unix://")
    if parts.fragment or "@" in f"{parts.path}{parts.query}" or parts.netloc.count("@") > 1:
        raise ValueError(f"it can't be taken apart; {ESCAPES}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme in SOCKET_SCHEMES:
        _check_options(options, SOCKET_OPTIONS)
        if not parts.path.strip("/"):
            raise ValueError("it names no socket; write unix:///path/to/redis.sock")
        _check_number(options.get("virtual_host", ""))
        return
    _check_host(parts)
    _check_number(parts.path.removeprefix("/"))
    _check_options(options, TLS_OPTIONS if parts.scheme == "rediss" else ())
    if options.get("ssl_cert_reqs", "required") not in CERTIFICATES:
        raise ValueError("ssl_cert_reqs must be required, optional or none")


def check_database(url: str) -> None:
    """Raise ValueError with a sentence where this is no URL of a database that Batchmill works with."""
    from sqlalchemy import make_url  # not for commands that have no database
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(f"it is no URL that can be taken apart; {ESCAPES}") from None
    if parsed.get_backend_name() not in DATABASE_SCHEMES:
        raise ValueError("it must begin with postgresql:// or sqlite:///")


def _split(url: str) -> SplitResult:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("it has blanks or control characters in it")
    try:
        return urlsplit(url)
    except ValueError:  # an unbalanced bracket
        raise ValueError(f"it can't be taken apart; {ESCAPES}") from None


def _check_host(parts: SplitResult) -> None:
    try:
        usable = parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"its port is no number from 1 to 65535; {ESCAPES}")


def _check_number(database: str) -> None:
    if database and not re.fullmatch(r"[0-9]{1,9}", database):
        raise ValueError(f"its database must be a number, as in redis://host:6379/0; {ESCAPES}")


def _check_options(given: dict[str, str], known: tuple[str, ...]) -> None:
    if not given.keys() <= set(known):
        allowed = f"only {', '.join(known)} may" if known else "nothing may"
        raise ValueError(f"{allowed} stand behind its question mark; a password stands before the host, as :PASSWORD@")
