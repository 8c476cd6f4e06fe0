"""Every request is counted and timed by its route, never by its path, which may name a batch or hold anything."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.server.requests.request_log import route_template

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.08, 0.15, 0.3, 0.6, 1, 2.5, 5, 10, 30, 60)
METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
BROKEN_OFF = 499  # nginx's status for a client that was gone before its response began
OTHER = "other"  # a route or a method that does not exist


class HttpMetrics:
    """The metrics of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "batchmill_http_requests",
            "Requests by the template of their route and `2xx` to `5xx`; `other` without a route. One "
            "that its client breaks off before the response is a `4xx`.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "batchmill_http_request_seconds",
            "Until the response was sent; a follower counts for as long as it follows.",
            ("route", "method"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "batchmill_http_requests_in_flight", "Requests that are being answered.", registry=registry
        )


class HttpMeasurement:
    """The layer that measures; a follower counts as one request, for as long as it follows."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            status = status or BROKEN_OFF
            raise
        finally:
            status = status or 500
            self._metrics.in_flight.dec()
            route = route_template(scope) or OTHER
            method = scope["method"] if scope["method"] in METHODS else OTHER
            self._metrics.requests.labels(route, method, f"{status // 100}xx").inc()
            self._metrics.seconds.labels(route, method).observe(time.perf_counter() - started)
