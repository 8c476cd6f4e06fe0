"""Requests to a server: with the key, bounded times and repeats."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import httpx2

from models import version
from models.errors import BatchmillError, Unreachable, UsageError
from models.foreign_errors import first_line
from producer.remote.address import ServerAddress
from producer.remote.errors import AnswerLost, error_from_response, foreign_response
from producer.remote.retrying import REPEAT, RetryPolicy

# The server answers within a minute or sends a sign of life; see `long_acts.py` and the heartbeats of streams.
TIMEOUT = httpx2.Timeout(90.0, connect=10.0, pool=None)
LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)
UPLOAD_CHUNK_BYTES = 256 * 1024
MAX_REASON_CHARACTERS = 200

Params = Mapping[str, str | int | float | bool | Sequence[str] | None]


class Clock(Protocol):
    """The module `time`, or one that tests set."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class Upload:
    """A request's body that can be sent again: a file that is read from its start each time."""

    def __init__(self, file: BinaryIO, media_type: str) -> None:
        self._file = file
        self.media_type = media_type

    def arguments(self, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the HTTP client is given to send the body once more.

        form: fields that go before the file in a form; None = the file is the body
        """
        size_bytes = self._file.seek(0, 2)
        self._file.seek(0)
        if form is not None:
            return {"data": dict(form), "files": {"file": ("rows", self._file, self.media_type)}}
        headers = {"content-type": self.media_type, "content-length": str(size_bytes)}
        return {"content": self._chunks(), "headers": headers}

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self._file.read(UPLOAD_CHUNK_BYTES):
            yield chunk


class ServerHttp:
    """The HTTP side of a client; threads may share it.

    clock: tells the time and waits between two tries
    transport: what sends requests; None = sockets
    """

    def __init__(
        self, address: ServerAddress, clock: Clock = time, transport: httpx2.BaseTransport | None = None
    ) -> None:
        headers = {"user-agent": f"batchmill-python/{version.VERSION}"}
        if address.api_key is not None:
            headers["authorization"] = f"Bearer {address.api_key}"
        self.url = address.url
        self._clock = clock
        self._client = httpx2.Client(headers=headers, timeout=TIMEOUT, limits=LIMITS, transport=transport)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def pause(self, seconds: float) -> None:
        """Wait between two requests."""
        self._clock.sleep(seconds)

    def get(self, path: str, params: Params | None = None) -> Any:
        """Return the JSON of a page."""
        return self.request("GET", path, params)[1]

    def request(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        json: Any = None,
        upload: Upload | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        policy: RetryPolicy = REPEAT,
    ) -> tuple[int, Any]:
        """Return the status and the JSON of a response; raises the error that the server answers, and Unreachable.

        json, upload: the body, one of them; `form` has fields beside an upload
        """

        def send() -> tuple[int, Any]:
            body = {"json": json} if upload is None else upload.arguments(form)
            body["headers"] = {**body.get("headers", {}), **(headers or {})}
            response = self._client.request(method, self.url + path, params=_without_none(params), **body)
            self._check(response)
            try:
                return response.status_code, response.json()
            except (ValueError, RecursionError):
                raise foreign_response(self.url, response) from None

        answer: tuple[int, Any] = self.repeat(send, policy)
        return answer

    @contextmanager
    def stream(self, path: str, params: Params | None = None, accept: str = "*/*") -> Iterator[httpx2.Response]:
        """Yield a response whose body is read in the block; one try, so the caller repeats it by `repeat`."""
        request = self._client.build_request(
            "GET", self.url + path, params=_without_none(params), headers={"accept": accept}
        )
        with self._translate():
            response = self._client.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                self._check(response)
                yield response
            finally:
                response.close()

    def repeat(self, call: Callable[[], Any], policy: RetryPolicy = REPEAT) -> Any:
        """Return what a call returns; failures that time mends make it start again, as the policy says."""
        first_failure, failures = 0.0, 0
        while True:
            try:
                with self._translate():
                    return call()
            except BatchmillError as error:
                failures += 1
                first_failure = first_failure or self._clock.monotonic()
                pause = policy.pause(error, failures, self._clock.monotonic() - first_failure, random.random)
                if pause is None:
                    raise
            self.pause(pause)

    def _check(self, response: httpx2.Response) -> None:
        if not response.is_success:
            raise error_from_response(self.url, response)

    @contextmanager
    def _translate(self) -> Iterator[None]:
        """Raise Unreachable in place of the HTTP client's errors, none of which quotes a header."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            unreachable = Unreachable(f"{self.url} does not answer ({_reason(error)})")
            if "CERTIFICATE_VERIFY_FAILED" in str(error):  # time mends nothing
                unreachable = UntrustedCertificate(f"the certificate of {self.url} is not trusted ({_reason(error)})")
            raise unreachable from None
        except httpx2.LocalProtocolError:  # without its text, which may quote a header
            raise UsageError(f"the request to {self.url} can't be sent; was its file changed meanwhile?") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise AnswerLost(f"the connection to {self.url} was lost ({_reason(error)})") from None


class UntrustedCertificate(Unreachable):
    """TLS shows that the server is not the one that was named, or that its authority is unknown here."""

    retryable = False


def _reason(error: Exception) -> str:
    text = first_line(error) if str(error) else type(error).__name__
    return text[:MAX_REASON_CHARACTERS]


def _without_none(params: Params | None) -> dict[str, Any] | None:
    return None if params is None else {name: value for name, value in params.items() if value is not None}
