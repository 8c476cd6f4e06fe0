"""Structured logs on stderr or in a file, readable on a terminal and as JSON lines elsewhere.

Log records contain ids, numbers and hashes, never the texts of inputs or outputs.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import structlog

from models.errors import SettingsError
from models.privacy import private_files, tracebacks
from models.settings import Settings

BATCHMILL_LOGGERS = ("models", "producer", "worker", "batchmill", "__main__")

# Only these libraries log at level debug: others would log requests with their keys and signed URLs.
LIBRARY_LEVELS = {
    **dict.fromkeys(("celery", "kombu", "amqp", "alembic", "filelock"), logging.WARNING),
    "huggingface_hub": logging.ERROR,  # it logs every retry twice; we log the outcome once
}

file_option = click.option(
    "--log-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Append the log to this file, instead of standard error (BATCHMILL_LOG_FILE).",
)


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


def open_file(path: Path | None) -> int | None:
    """Open a log file for appending, creating it as a private file, and return its descriptor; None for no path.

    Raises SettingsError.
    """
    if path is None:
        return None
    try:
        private_files.make_folder(path.parent)
        return private_files.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    except OSError as error:
        raise SettingsError(
            f"the log file {path} can't be written to: {error.strerror}; name another: --log-file FILE"
        ) from None


@contextmanager
def redirect_output(descriptor: int | None) -> Iterator[None]:
    """Send what this process and its children write to a file, for a block; None changes nothing.

    This covers the messages of libraries and of the interpreter too. The descriptor is closed at the end.
    """
    if descriptor is None:
        yield
        return
    os.set_blocking(descriptor, True)
    before = {number: os.dup(number) for number in (1, 2)}
    sys.stdout.flush()
    for number in before:
        os.dup2(descriptor, number)
    os.close(descriptor)
    try:
        yield
    finally:
        for number, copy in before.items():
            os.dup2(copy, number)
            os.close(copy)


def _format_traceback(exc_info: structlog.typing.ExcInfo) -> str:
    return tracebacks.format_error(exc_info[1])


def _renderer(settings: Settings) -> Any:
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    if console:
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer()
