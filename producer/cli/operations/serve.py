"""The command `serve`: the HTTP server."""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import structlog

from models import log, packages, schema, version
from models.db import Database
from models.errors import UsageError
from models.pipelines.catalogue import Catalogue
from models.postgresql import access
from models.postgresql.grants import Purpose
from models.privacy import terminal, urls
from models.processes import background, failpoints, sockets
from models.settings import Settings
from producer.tenants import keys

logger = structlog.get_logger(__name__)

tls_file = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Serve the web page and the HTTP API until Ctrl-C.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on (BATCHMILL_SERVE_HOST).")
@click.option(
    "--port", type=click.IntRange(0, 65_535), metavar="PORT", help="Port; 0: any free one (BATCHMILL_SERVE_PORT)."
)
@click.option("--tls-cert", type=tls_file, metavar="FILE", help="Certificate chain (BATCHMILL_SERVE_TLS_CERT).")
@click.option("--tls-key", type=tls_file, metavar="FILE", help="Its private key (BATCHMILL_SERVE_TLS_KEY).")
@click.option("--insecure", is_flag=True, help="Serve other machines without TLS, as behind a proxy that ends it.")
@log.file_option
@click.option(
    "--exit-with-parent",
    is_flag=True,
    hidden=True,
    help="Exit when standard input ends, which the parent process holds open.",
)
@click.option("--socket", "descriptor", type=int, hidden=True, help="Descriptor of a socket that listens already.")
def serve(
    host: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    log_file: Path | None,
    exit_with_parent: bool,
    descriptor: int | None,
) -> None:
    """Serve the web page, the API under /api and an OpenAI-compatible one under /v1, until Ctrl-C or SIGTERM.

    Without API keys it listens on this machine only; see `batchmill keys`. docs/how-to/serve.md has examples of
    a proxy.
    """
    settings = Settings.load(
        serve_host=host, serve_port=port, serve_tls_cert=tls_cert, serve_tls_key=tls_key, log_file=log_file
    )
    _configure_log(settings)
    failpoints.arm()
    if exit_with_parent:
        background.exit_with_parent()
    _check_extra()
    from producer.server import run  # needs the extra `serve`

    has_tls = run.check_tls(settings)
    with _open_listeners(settings, descriptor) as listeners, _open_database(settings) as database:
        _check_exposure(settings, database, has_tls=has_tls, is_behind_proxy=insecure)
        sys.exit(_serve(settings, database, listeners, has_tls=has_tls))


def _check_extra() -> None:
    """Raise UsageError if the extra `serve` is not installed."""
    if not packages.has_server():
        raise UsageError("the server needs FastAPI; in the checkout, run: pip install -c constraints.txt '.[serve]'")


@contextmanager
def _open_listeners(settings: Settings, descriptor: int | None) -> Iterator[list[socket.socket]]:
    if descriptor is None:
        listeners = sockets.open_sockets(settings.serve_host, settings.serve_port)
    else:
        try:
            listeners = [socket.socket(fileno=descriptor)]
        except OSError as error:
            raise UsageError(f"--socket {descriptor} is no open socket: {error.strerror}") from None
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


@contextmanager
def _open_database(settings: Settings) -> Iterator[Database]:
    from producer.server.run import MAX_CONNECTIONS

    database = schema.open_database(settings, max_connections=MAX_CONNECTIONS)
    try:
        access.require_privileges(database, Purpose.SUBMITTER)
        yield database
    finally:
        database.close()


def _check_exposure(settings: Settings, database: Database, *, has_tls: bool, is_behind_proxy: bool) -> None:
    from producer.server.process import exposure

    exposure.check_exposure(exposure.Exposure(settings.serve_host, keys.any_exist(database), has_tls, is_behind_proxy))


def _serve(settings: Settings, database: Database, listeners: Sequence[socket.socket], *, has_tls: bool) -> int:
    from producer.server import run
    from producer.server.context import ServerContext
    from producer.server.process.instances import Instance
    from producer.uploads.storage import store

    address = sockets.format_address(listeners[0], settings.serve_host, has_tls=has_tls)
    context = ServerContext(settings, database, Catalogue.load(settings))
    instance = Instance(database, settings, store.open_store(settings).store_id, address)
    log_file = log.open_file(settings.log_file_path)
    with ExitStack() as redirection:

        def announce() -> None:
            place = urls.redact_url(settings.resolved_database_url)
            served = f"serving the pages and the API on {address}, over {place}"
            notices = [served, f"pid {os.getpid()}; Ctrl-C stops it"]
            for notice in [*notices, *([f"log: {settings.log_file_path}"] if log_file else [])]:
                terminal.print_notice(notice)
            redirection.enter_context(log.redirect_output(log_file))
            _configure_log(settings)
            logger.info("server.started", address=address, version=version.full_version())

        return run.serve(context, listeners, instance, announce)


def _configure_log(settings: Settings) -> None:
    log.configure(settings, process="server", pid=os.getpid())
