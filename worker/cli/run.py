"""The commands that run work: `worker` and `up`."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click
import structlog

from models import log, version
from models.errors import SchemaMismatch, SettingsError, UsageError
from models.hardware import device_names
from models.packages import import_name
from models.pipelines import model_files
from models.pipelines.catalogue import Catalogue
from models.postgresql import access
from models.postgresql.grants import Purpose
from models.privacy import private_files, terminal, urls
from models.processes import background, failpoints, home_lock
from models.settings import Settings
from worker.cli import pipeline_names, worker_processes
from worker.cli.server_process import ServerProcess, plan_server
from worker.cli.worker_processes import WorkerProcesses
from worker.metrics import listener
from worker.supervisor import embedded_valkey
from worker.supervisor.crash_recovery import CrashRecovery
from worker.supervisor.supervisor import ChildSpec, supervise

logger = structlog.get_logger(__name__)

VALKEY = import_name("worker.supervisor.embedded_valkey")


def _check_devices(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    try:
        device_names.parse_devices(text) if text is not None else None
    except ValueError as error:
        raise UsageError(f"--devices: {error}") from None
    return text


devices_option = click.option(
    "--devices",
    metavar="DEVICES",
    callback=_check_devices,
    help="One process for each: cuda:0,cuda:1, or cuda:0*4 for four on one GPU; unset: all GPUs, or the CPU.",
)


@click.command(short_help="Run worker processes for pipelines.")
@pipeline_names.several(default="")
@devices_option
@click.option(
    "--micro-batch-tokens", type=click.IntRange(min=1), metavar="N", help="Most padded tokens in one micro-batch."
)
@log.file_option
def worker(names: list[str], devices: str | None, micro_batch_tokens: int | None, log_file: Path | None) -> None:
    """Run one process or several for each device until Ctrl-C or SIGTERM.

    Given several PIPELINES, a process has one loaded at a time. It switches when that one has no work left, or when
    another has waited for switch_after_seconds.
    """
    if micro_batch_tokens:
        # In the environment, because each child process loads the settings itself.
        os.environ["BATCHMILL_MICRO_BATCH_TOKENS"] = str(micro_batch_tokens)
    settings = _load_settings(log_file, devices)
    _check_requirements(settings, names)
    workers = worker_processes.plan_processes(settings, names)
    _supervise(settings, workers, [workers.specs])


@click.command(short_help="Run the whole system on this machine until Ctrl-C.")
@pipeline_names.several(default="those of batchmill.toml, and the samples")
@devices_option
@click.option("--no-serve", is_flag=True, help="Start no server of the web page and the HTTP API.")
@log.file_option
@click.option(
    "--exit-with-parent",
    is_flag=True,
    hidden=True,
    help="Exit when standard input ends, which the parent process holds open.",
)
def up(names: list[str], devices: str | None, no_serve: bool, log_file: Path | None, exit_with_parent: bool) -> None:
    """Run the embedded Valkey (unless BATCHMILL_REDIS_URL is set), workers for the pipelines, and a server.

    The server has the web page and the HTTP API. It listens on 127.0.0.1, at port 8000 (BATCHMILL_SERVE_PORT) or the
    next free one. Everything runs until Ctrl-C or `batchmill down`. The database is
    upgraded first when it is the embedded one.
    """
    settings = _load_settings(log_file, devices)
    if exit_with_parent:
        background.exit_with_parent()
    names = names or _default_pipelines(settings)
    _check_requirements(settings, names)
    workers = worker_processes.plan_processes(settings, names)
    with (
        home_lock.lock_home(settings.home_path),
        closing(ServerProcess() if no_serve else plan_server(settings)) as server,
    ):
        notices = [*_describe_up(settings, names), *server.notices]
        children = [*workers.specs, *server.specs]
        if settings.redis_url is not None:
            _supervise(settings, workers, [children], notices)
        socket_path = settings.embedded_socket_path
        private_files.make_folder(socket_path.parent)
        if settings.untrusted_socket_reason:
            raise SettingsError(settings.untrusted_socket_reason)
        valkey = ChildSpec("valkey", VALKEY, (str(socket_path), str(settings.home_path / "valkey")))
        is_ready = partial(embedded_valkey.is_responding, socket_path)
        _supervise(settings, workers, [[valkey], children], notices, is_ready)


def _describe_up(settings: Settings, pipeline_names: Sequence[str]) -> list[str]:
    database = urls.redact_url(settings.resolved_database_url)
    return [
        f"Batchmill serves {', '.join(pipeline_names)} on {database}",
        f"pid {os.getpid()}; Ctrl-C or `batchmill down` stops it",
        *([] if settings.log_file_path else ["log: standard error; --log-file FILE writes it to a file instead"]),
    ]


def _supervise(
    settings: Settings,
    workers: WorkerProcesses,
    groups: Sequence[Sequence[ChildSpec]],
    notices: Sequence[str] = (),
    is_ready: Callable[[], bool] = lambda: True,
) -> NoReturn:
    """Print the notices, run the children until a signal, and exit with the status of `supervise`."""
    with closing(access.open_with_privileges(settings, Purpose.WORKER)) as database:
        log_file = log.open_file(settings.log_file_path)
        warnings = [f"warning: {warning}" for warning in workers.warnings]
        for notice in [*notices, *warnings, *([f"log: {settings.log_file_path}"] if log_file else [])]:
            terminal.print_notice(notice)
        with log.redirect_output(log_file):
            _configure_log(settings)
            logger.info("supervisor.started", version=version.full_version())
            logger.info("devices.chosen", devices=workers.devices, reason=workers.reason or "the operator chose them")
            status = supervise(
                groups,
                grace_seconds=settings.grace_seconds,
                is_ready=is_ready,
                on_child_exit=CrashRecovery(database, settings, listener.listen(settings)),
            )
    exit_after_log(settings, status)


def exit_after_log(settings: Settings, status: int) -> NoReturn:
    """Exit, and point to the log file if only that has the reason."""
    if settings.log_file_path and status == SchemaMismatch.exit_code:
        terminal.print_notice(f"the tables belong to another version; {settings.log_file_path} has the details")
    sys.exit(status)


def _default_pipelines(settings: Settings) -> list[str]:
    """The user's own pipelines, of which the first is loaded at the start, and the samples."""
    catalogue = Catalogue.load(settings)
    for error in catalogue.unusable.values():  # the other pipelines can be served
        terminal.print_notice(f"warning: {error}")
    names = [name for name in settings.pipelines if name not in catalogue.unusable]
    return list(dict.fromkeys((*names, *catalogue.sample_names)))


def _load_settings(log_file: Path | None, devices: str | None) -> Settings:
    settings = Settings.load(log_file=log_file, devices=devices)
    _configure_log(settings)
    failpoints.arm()  # here, so that a wrong one is reported once instead of crashing the children
    return settings


def _configure_log(settings: Settings) -> None:
    log.configure(settings, process="supervisor", pid=os.getpid())


def _check_requirements(settings: Settings, pipeline_names: list[str]) -> None:
    listener.check_requirements(settings)
    catalogue = Catalogue.load(settings)
    for name in pipeline_names:
        try:
            model_files.check_max_length(catalogue[name])
            model_files.check_folder(catalogue[name])
            model_files.check_guards(catalogue[name])
        except SettingsError as error:  # the other pipelines can be served
            terminal.print_notice(f"warning: {error}")
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise UsageError(
            "workers need torch and transformers; in the checkout, run: pip install -c constraints.txt '.[worker]'"
        )
    if settings.redis_url is None and not embedded_valkey.is_installed():
        raise UsageError(
            "set BATCHMILL_REDIS_URL, or in the checkout, run: pip install -c constraints.txt '.[embedded]'"
        )
