"""URL checks and redaction: settings are validated early, and no message repeats a password.

kombu and SQLAlchemy parse the URLs later, and their error messages quote them. Displayed URLs are therefore rebuilt
from the host, port and database that the same parser found.
"""

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlsplit

if TYPE_CHECKING:
    from sqlalchemy import URL

REDIS_SCHEMES, SOCKET_SCHEMES = ("redis", "rediss"), ("unix", "redis+socket")
DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg", "sqlite", "sqlite+pysqlite")
ESCAPE_ADVICE = "in a password write / as %2F, # as %23, ? as %3F, @ as %40, : as %3A and % as %25"
CERTIFICATE_REQUIREMENTS = ("required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE")
TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
SQLITE_OPTIONS = ("mode", "cache", "immutable", "nolock", "psow", "vfs", "uri", "timeout")
SOCKET_OPTIONS = ("virtual_host",)
SHOWN_QUERY_KEYS = ("host", "port", "dbname")  # query parameters of a PostgreSQL URL that may be shown
PASSWORD_ADVICE = "a server's password stands before its host, as :PASSWORD@"
HUB_SCHEME = "hf"
HIDDEN_URL = "a URL that can't be read"


def check_redis_url(url: str) -> None:
    """Raise ValueError with a sentence if kombu and redis-py could not connect with this URL."""
    parts = _split_url(url)
    if parts.scheme not in (*REDIS_SCHEMES, *SOCKET_SCHEMES):
        raise ValueError("it must begin with redis://, rediss:// or unix://")
    if parts.fragment or "@" in f"{parts.path}{parts.query}" or parts.netloc.count("@") > 1:
        raise ValueError(f"it can't be taken apart; {ESCAPE_ADVICE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme in SOCKET_SCHEMES:
        _check_options(options, SOCKET_OPTIONS)
        if not parts.path.strip("/"):
            raise ValueError("it names no socket; write unix:///path/to/redis.sock")
        _check_database_number(options.get("virtual_host", ""))
        return
    _check_host(parts)
    _check_database_number(parts.path.removeprefix("/"))
    _check_options(options, TLS_OPTIONS if parts.scheme == "rediss" else ())
    if options.get("ssl_cert_reqs", "required") not in CERTIFICATE_REQUIREMENTS:
        raise ValueError("ssl_cert_reqs must be required, optional or none")


def check_database_url(url: str) -> None:
    """Raise ValueError with a sentence if this is not the URL of a supported database."""
    parsed = parse_database_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.host or parsed.username or parsed.password:
            raise ValueError("SQLite's names a file and no host; write sqlite:////path/to/file.db")
        _check_options(dict.fromkeys(parsed.query, ""), SQLITE_OPTIONS)
        return
    misread = "@" in (parsed.host or "") or {*"@;="} & {*(parsed.database or "")} or "/" in (parsed.username or "")
    if misread or (parsed.port is not None and not 0 < parsed.port < 65_536):
        raise ValueError(f"it can't be taken apart; {ESCAPE_ADVICE}")
    if parsed.query:
        _check_libpq_options(parsed)


def parse_database_url(url: str) -> "URL":
    """Parse a database URL with SQLAlchemy; raises ValueError with a sentence that quotes nothing of it."""
    from sqlalchemy import make_url  # slow import; many commands need no database
    from sqlalchemy.exc import ArgumentError

    if re.search(r"[\x00-\x1f\x7f]", url):
        raise ValueError("it has control characters in it")
    try:
        parsed = make_url(with_driver(url))
    except (ArgumentError, ValueError):
        raise ValueError(f"it is no URL that can be taken apart; {ESCAPE_ADVICE}") from None
    if parsed.drivername not in DATABASE_SCHEMES:
        raise ValueError("it must begin with postgresql:// or sqlite:///")
    return parsed


def with_driver(url: str) -> str:
    """Return a database URL with our driver, because another library's URL may name a different one."""
    scheme, colon, rest = url.partition("://")
    ours = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
    driver = ours.get(scheme.partition("+")[0])
    return f"{driver}://{rest}" if colon and driver else url


def redact_url(url: str) -> str:
    """Return the location of a database or Redis for logs: no user, no password, no unparsed text."""
    scheme = url.partition("://")[0]
    try:
        if scheme in SOCKET_SCHEMES:
            check_redis_url(url)
            return f"unix://{urlsplit(url).path}"
        if scheme in REDIS_SCHEMES:
            check_redis_url(url)
            return _redact_redis(urlsplit(url))
        check_database_url(url)
        return _redact_database(parse_database_url(url))
    except ValueError:
        return HIDDEN_URL


def _check_libpq_options(parsed: "URL") -> None:
    from psycopg import Error
    from psycopg.conninfo import make_conninfo
    from sqlalchemy.exc import SQLAlchemyError

    try:
        _, options = parsed.get_dialect()().create_connect_args(parsed)
        make_conninfo(**options)
    except (Error, ValueError, SQLAlchemyError):
        raise ValueError("behind its question mark may stand only libpq's parameters, such as sslmode") from None


def redact_webhook_url(url: str) -> str:
    """Return only scheme and host of a webhook, because its path may contain a token."""
    parts = _split_url(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


def redact_path(path: str) -> str:
    """Return a path unchanged, or a URL without user, password, query and fragment, where signatures are.

    On the Hugging Face Hub, a number sign belongs to the name of a file.
    """
    scheme, separator, rest = path.partition("://")
    if not separator:
        return path
    rest = rest.partition("?")[0]
    if scheme.lower() != HUB_SCHEME:
        rest = rest.partition("#")[0]
    host, slash, name = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{name}"


def _redact_redis(parts: SplitResult) -> str:
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _redact_database(parsed: "URL") -> str:
    if parsed.get_backend_name() == "sqlite":
        return f"sqlite:///{parsed.database or ''}"
    places = {name: value for name, value in parsed.query.items() if name in SHOWN_QUERY_KEYS}
    bare = parsed._replace(drivername="postgresql", username=None, password=None).set(query=places)
    return bare.render_as_string()


def _split_url(url: str) -> SplitResult:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("it has blanks or control characters in it")
    try:
        return urlsplit(url)
    except ValueError:  # an unbalanced bracket
        raise ValueError(f"it can't be taken apart; {ESCAPE_ADVICE}") from None


def _check_host(parts: SplitResult) -> None:
    try:
        usable = parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"its port is no number from 1 to 65535; {ESCAPE_ADVICE}")


def _check_database_number(database: str) -> None:
    if database and not re.fullmatch(r"[0-9]{1,9}", database):
        raise ValueError(f"its database must be a number, as in redis://host:6379/0; {ESCAPE_ADVICE}")


def _check_options(options: dict[str, str], known_options: tuple[str, ...]) -> None:
    if not options.keys() <= set(known_options):
        allowed = f"only {', '.join(known_options)} may" if known_options else "nothing may"
        raise ValueError(f"{allowed} stand behind its question mark; {PASSWORD_ADVICE}")
