"""The port on which one process answers Prometheus."""

import socket
import threading
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog

from models.errors import UsageError
from models.settings import Settings
from worker.metrics.recorder import NO_METRICS, MetricsRecorder

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 8  # at once; each has a thread
REQUEST_SECONDS = 5.0  # without a byte of a request, or with nothing read of its response

MISSING_CLIENT = (
    "metrics_port needs prometheus_client; in the checkout, run: pip install -c constraints.txt '.[metrics]'"
)


def check_requirements(settings: Settings) -> None:
    """Raise UsageError if a metrics port is set and prometheus_client is not installed."""
    if settings.metrics_port is not None and find_spec("prometheus_client") is None:
        raise UsageError(MISSING_CLIENT)


def listen(settings: Settings) -> MetricsRecorder:
    """Answer on this process' port from now on, in a thread; returns the recorder of what it answers.

    A port that is in use costs the metrics, and no work.
    """
    if settings.metrics_port is None:
        return NO_METRICS
    from worker.metrics.families import PrometheusRecorder  # only where there is a port

    recorder = PrometheusRecorder()
    try:
        start_server(settings.metrics_host, settings.metrics_port, recorder.registry)
    except OSError as error:
        log.warning("metrics.listen_failed", port=settings.metrics_port, error=error.strerror or type(error).__name__)
        return NO_METRICS
    log.info("metrics.listening", port=settings.metrics_port)
    return recorder


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Answers at most MAX_CONNECTIONS at once and closes further ones, so that a scanner costs the worker little."""

    daemon_threads = True
    address_family: int

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _RequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer a connection."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell nobody: the client is slow or gone."""


class _RequestHandler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, *_arguments: Any) -> None:
        """Log no requests."""


def start_server(host: str, port: int, registry: "CollectorRegistry") -> MetricsServer:
    """Answer with this registry in a thread, until the process ends; raises OSError."""
    from prometheus_client import make_wsgi_app

    server = MetricsServer(host, port)
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
