"""Structured logs on stderr, readable on a terminal and as JSON lines elsewhere.

Log records contain ids, numbers and hashes, never the texts of inputs or outputs.
"""

import logging
import sys
from typing import Any

import structlog

from models.privacy import tracebacks
from models.settings import Settings

BATCHMILL_LOGGERS = ("models", "producer", "worker", "batchmill", "__main__")

# Only these libraries log at level debug: others would log requests with their keys and signed URLs.
LIBRARY_LEVELS = {
    **dict.fromkeys(("celery", "kombu", "amqp", "alembic", "filelock"), logging.WARNING),
    "huggingface_hub": logging.ERROR,  # it logs every retry twice; we log the outcome once
}


def configure(settings: Settings, **context: Any) -> None:
    """Format the records of structlog and the standard library alike, with `context` on every line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, event: {**context, **event},
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # structlog's own renderer prints messages, which may quote rows, and the values of variables.
                structlog.processors.ExceptionRenderer(_format_traceback),
                _renderer(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(max(level, logging.WARNING))
    for name in BATCHMILL_LOGGERS:
        logging.getLogger(name).setLevel(level)
    for name, usual in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == logging.DEBUG else usual)


def _format_traceback(exc_info: structlog.typing.ExcInfo) -> str:
    return tracebacks.format_error(exc_info[1])


def _renderer(settings: Settings) -> Any:
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    if console:
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer()
