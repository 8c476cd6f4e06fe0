"""The commands that run work: `worker` and `up`."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from models import background, failpoints, log
from models.errors import SettingsError, UsageError
from models.packages import import_name
from models.pipelines.catalogue import Catalogue
from models.postgresql import access
from models.postgresql.grants import Purpose
from models.privacy import private_files, urls
from models.settings import Settings
from worker.supervisor import devices, embedded_valkey
from worker.supervisor.crash_recovery import CrashRecovery
from worker.supervisor.supervisor import ChildSpec, supervise

VALKEY = import_name("worker.supervisor.embedded_valkey")
PROCESS = import_name("worker.process.main")


@click.command(short_help="Run worker processes for pipelines.")
@click.argument("pipelines", nargs=-1, required=True)
@click.option(
    "--devices",
    "devices_option",
    default="auto",
    show_default=True,
    help="One process for each: cuda:0,cuda:1 or cpu,cpu.",
)
@click.option("--micro-batch-tokens", type=click.IntRange(min=1), help="Padded tokens in one micro-batch.")
def worker(pipelines: tuple[str, ...], devices_option: str, micro_batch_tokens: int | None) -> None:
    """Run one process for each device until Ctrl-C or SIGTERM.

    Given several PIPELINES, a process has one loaded at a time. It switches when that one has no work left, or when
    another has waited for switch_after_seconds.
    """
    if micro_batch_tokens:
        # In the environment, because each child process loads the settings itself.
        os.environ["BATCHMILL_MICRO_BATCH_TOKENS"] = str(micro_batch_tokens)
    settings = _load_settings()
    names = list(dict.fromkeys(pipelines))
    _check_requirements(settings, names)
    specs = _worker_specs(names, devices.device_names(devices_option))
    with closing(access.open_with_privileges(settings, Purpose.WORKER)) as database:
        crash_recovery = CrashRecovery(database, settings)
        sys.exit(supervise([specs], grace_seconds=settings.grace_seconds, on_child_exit=crash_recovery))


@click.command(short_help="Run the whole system on this machine until Ctrl-C.")
@click.option(
    "--pipelines", "pipelines_option", default="", help="Pipelines to serve, separated by commas; default: the samples."
)
@click.option(
    "--devices",
    "devices_option",
    default="auto",
    show_default=True,
    help="One process for each: cuda:0,cuda:1 or cpu,cpu.",
)
@click.option(
    "--exit-with-parent",
    is_flag=True,
    hidden=True,
    help="Exit when standard input ends, which the parent process holds open.",
)
def up(pipelines_option: str, devices_option: str, exit_with_parent: bool) -> None:
    """Run the embedded Valkey (unless BATCHMILL_REDIS_URL is set) and workers for the pipelines, until Ctrl-C.

    The database is upgraded first when it is the embedded one.
    """
    settings = _load_settings()
    if exit_with_parent:
        background.exit_with_parent()
    pipelines = [name.strip() for name in pipelines_option.split(",") if name.strip()] or Catalogue.load(
        settings
    ).sample_names
    _check_requirements(settings, pipelines)
    with _lock_home(settings.home_path), closing(access.open_with_privileges(settings, Purpose.WORKER)) as database:
        crash_recovery = CrashRecovery(database, settings)
        click.echo(
            f"Batchmill serves {', '.join(pipelines)} on "
            f"{urls.redact_url(settings.resolved_database_url)}; Ctrl-C ends it",
            err=True,
        )
        workers = _worker_specs(pipelines, devices.device_names(devices_option))
        if settings.redis_url is not None:
            sys.exit(supervise([workers], grace_seconds=settings.grace_seconds, on_child_exit=crash_recovery))
        path = settings.embedded_socket_path
        private_files.make_folder(path.parent)
        if settings.untrusted_socket_reason:
            raise SettingsError(settings.untrusted_socket_reason)
        valkey = ChildSpec("valkey", VALKEY, (str(path), str(settings.home_path / "valkey")))
        sys.exit(
            supervise(
                [[valkey], workers],
                grace_seconds=settings.grace_seconds,
                is_ready=lambda: embedded_valkey.is_responding(path),
                on_child_exit=crash_recovery,
            )
        )


def _load_settings() -> Settings:
    settings = Settings.load()
    log.configure(settings, process="supervisor")
    failpoints.arm()  # here, so that a wrong one is reported once instead of crashing the children
    return settings


def _check_requirements(settings: Settings, pipeline_names: list[str]) -> None:
    catalogue = Catalogue.load(settings)
    for name in pipeline_names:
        catalogue[name]
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise UsageError(
            "workers need torch and transformers; in the checkout, run: pip install -c constraints.txt '.[worker]'"
        )
    if settings.redis_url is None and not embedded_valkey.is_installed():
        raise UsageError(
            "set BATCHMILL_REDIS_URL, or in the checkout, run: pip install -c constraints.txt '.[embedded]'"
        )


def _worker_specs(pipeline_names: list[str], device_names: list[str]) -> list[ChildSpec]:
    threads = str(devices.threads_per_process(device_names))
    return [
        ChildSpec(name, PROCESS, (",".join(pipeline_names), name, threads), reports_exit=True) for name in device_names
    ]


@contextmanager
def _lock_home(home: Path) -> Iterator[None]:
    try:
        private_files.make_folder(home)
        descriptor = private_files.open_file(home / "up.lock")
    except OSError as error:
        raise SettingsError(f"{home} can't be written to: {error.strerror}; set BATCHMILL_HOME to another") from None
    with os.fdopen(descriptor, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"`batchmill up` runs already in {home}; end it first, or set BATCHMILL_HOME") from None
        yield
