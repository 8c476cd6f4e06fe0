"""Authentication: which principal a request's `Authorization` header, or the cookie of a session, stands for."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from models.db import Database
from models.errors import Unauthorized
from producer.tenants import keys, sessions
from producer.tenants.principal import OPERATOR, Principal

MAX_HEADER_CHARACTERS = 512
MAX_REMEMBERED_KEYS = 1024

# How long a verified key stays valid without a look at the database, so that polling costs no query. A key
# that was revoked or expires is refused after this time, and the first key closes an open server after it.
REMEMBER_SECONDS = 5.0

WITHOUT_KEY = "this server wants an API key, as the header Authorization: Bearer bm_…; make one: batchmill keys create"


class RememberedPrincipals:
    """What was verified within the last seconds, by the hash of the secret; threads may share it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def recall(self, secret: str) -> Principal | None:
        """Return the principal of a secret; None = it has to be verified."""
        with self._lock:
            until, principal = self._remembered.get(_digest(secret), (0.0, OPERATOR))
        return principal if self._clock() < until else None

    def remember(self, secret: str, principal: Principal) -> None:
        """Note that a secret was verified."""
        digest = _digest(secret)
        with self._lock:
            self._remembered[digest] = (self._clock() + REMEMBER_SECONDS, principal)
            self._remembered.move_to_end(digest)
            if len(self._remembered) > MAX_REMEMBERED_KEYS:
                self._remembered.popitem(last=False)

    def forget(self, secret: str) -> None:
        """Let a secret be verified again."""
        with self._lock:
            self._remembered.pop(_digest(secret), None)


class Authenticator:
    """Verifies keys and sessions, and remembers for a few seconds which ones are valid; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._keys = RememberedPrincipals(clock)
        self._sessions = RememberedPrincipals(clock)  # apart, so that the token of a session is no key
        self._is_closed = False  # keys were seen; nothing opens the server again
        self._open_until = 0.0

    def authenticate(self, database: Database, headers: list[str]) -> tuple[Principal, bool]:
        """Return the principal of a request, and whether the last use of its key has to be noted.

        headers: the values of all `Authorization` headers

        Raises Unauthorized. As long as no keys exist, everybody is the operator, whatever is in the header.
        """
        if not self.needs_key(database):
            return OPERATOR, False
        if (known := self.recall(headers)) is not None:
            return known, False
        key_text = _bearer_token(headers)
        principal, is_use_unknown = keys.verify_key(database, key_text)
        self._keys.remember(key_text, principal)
        return principal, is_use_unknown

    def recall(self, headers: list[str]) -> Principal | None:
        """Return the principal if it is known without the database; None = `authenticate` finds out.

        Raises Unauthorized for headers that can't be those of a key.
        """
        if not self._is_closed:
            return OPERATOR if self._clock() < self._open_until else None
        return self._keys.recall(_bearer_token(headers))

    def recall_needs_key(self) -> bool | None:
        """Whether requests need a key; None = `needs_key` finds out."""
        if self._is_closed:
            return True
        return False if self._clock() < self._open_until else None

    def needs_key(self, database: Database) -> bool:
        """Whether there are keys, so that every request needs one."""
        if not self._is_closed and self._clock() >= self._open_until:
            self._is_closed = keys.any_exist(database)
            self._open_until = self._clock() + REMEMBER_SECONDS
        return self._is_closed

    def recall_session(self, token: str) -> Principal | None:
        """Return the principal of a session if it is known without the database."""
        return self._sessions.recall(token)

    def authenticate_session(self, database: Database, token: str) -> tuple[Principal, bool]:
        """Return the principal of a session, and whether the last use of its key has to be noted.

        Raises Unauthorized.
        """
        if (known := self._sessions.recall(token)) is not None:
            return known, False
        principal, is_use_unknown = sessions.verify_session(database, token)
        self._sessions.remember(token, principal)
        return principal, is_use_unknown

    def forget_session(self, token: str) -> None:
        """Refuse a session that was just ended; other servers remember it for REMEMBER_SECONDS at most."""
        self._sessions.forget(token)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _bearer_token(headers: list[str]) -> str:
    """Return the key in the header; raises Unauthorized, never with a part of the header."""
    if not headers:
        raise Unauthorized(WITHOUT_KEY)
    if len(headers) > 1:
        raise Unauthorized("the request has more than one Authorization header; send one")
    scheme, _, token = headers[0][: MAX_HEADER_CHARACTERS + 1].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized(WITHOUT_KEY)
    if len(headers[0]) > MAX_HEADER_CHARACTERS:
        raise Unauthorized(keys.NO_SUCH_KEY)
    return token.strip(" ")
