"""The port on which one process answers Prometheus."""

from importlib.util import find_spec

import structlog

from models.errors import UsageError
from models.settings import Settings
from worker.metrics.recorder import NO_METRICS, MetricsRecorder

log = structlog.get_logger(__name__)

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
    from prometheus_client import start_http_server  # only where there is a port

    from worker.metrics.families import PrometheusRecorder

    recorder = PrometheusRecorder()
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, recorder.registry)
    except OSError as error:
        log.warning("metrics.listen_failed", port=settings.metrics_port, error=error.strerror or type(error).__name__)
        return NO_METRICS
    log.info("metrics.listening", port=settings.metrics_port)
    return recorder
