"""The cookies of the pages: their names and their attributes."""

from dataclasses import dataclass

from fastapi import Request, Response


@dataclass(frozen=True, slots=True)
class Cookies:
    """The cookies of one address.

    port: in their names, because browsers send the cookies of a host to each of its ports
    is_secure: whether the browser came over TLS, here or at a proxy in front
    """

    port: int
    is_secure: bool

    @classmethod
    def of(cls, request: Request) -> "Cookies":
        """The cookies for the address that a request names."""
        # A client that lies about its proxy only gets a cookie that it can't use itself.
        proxied = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        is_secure = request.url.scheme == "https" or proxied == "https"
        try:
            port = request.url.port
        except ValueError:  # a Host header that is none
            port = None
        return cls(port or (443 if is_secure else 80), is_secure)

    @property
    def session(self) -> str:
        """The name of the session's cookie."""
        return self._name("session")

    @property
    def form(self) -> str:
        """The name of the cookie for forms without a session, so that only signing in writes the other one."""
        return self._name("form")

    @property
    def message(self) -> str:
        """The name of the cookie with a message for the next page."""
        return self._name("message")

    def set(self, response: Response, name: str, value: str) -> None:
        """Set a cookie that lasts until the browser ends; scripts and other sites have no use of it."""
        response.set_cookie(name, value, httponly=True, samesite="strict", secure=self.is_secure, path="/")

    def delete(self, response: Response, name: str) -> None:
        """Delete a cookie."""
        response.delete_cookie(name, httponly=True, samesite="strict", secure=self.is_secure, path="/")

    def _name(self, purpose: str) -> str:
        # With this prefix browsers take the cookie only over TLS, and from no other host of the domain.
        return f"{'__Host-' if self.is_secure else ''}batchmill_{purpose}_{self.port}"
