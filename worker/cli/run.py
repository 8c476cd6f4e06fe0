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
from models.postgresql import privileges
from models.postgresql.grants import Purpose
from models.privacy import private_files, urls
from models.settings import Settings
from worker.supervisor import devices, embedded_valkey
from worker.supervisor.crash_recovery import Mourning
from worker.supervisor.supervisor import Slot, supervise

VALKEY = import_name("worker.supervisor.embedded_valkey")
PROCESS = import_name("worker.process.main")


@click.command(short_help="Run worker processes for pipelines.")
@click.argument("pipelines", nargs=-1, required=True)
@click.option(
    "--devices", "asked", default="auto", show_default=True, help="One process for each: cuda:0,cuda:1 or cpu,cpu."
)
@click.option("--tokens-per-batch", type=click.IntRange(min=1), help="Padded tokens in one micro-batch.")
def worker(pipelines: tuple[str, ...], asked: str, tokens_per_batch: int | None) -> None:
    """Run one process for each device until Ctrl-C or SIGTERM.

    Given several PIPELINES, a process has one loaded at a time, and changes when its backlog is dry or another has
    waited for max_wait_seconds.
    """
    if tokens_per_batch:
        os.environ["BATCHMILL_TOKENS_PER_BATCH"] = str(tokens_per_batch)  # the children read settings for themselves
    settings = _settings()
    names = list(dict.fromkeys(pipelines))
    _check(settings, names)
    slots = _slots(names, devices.slots(asked))
    with closing(privileges.opened(settings, Purpose.WORKING)) as database:
        mourning = Mourning(database, settings)
        sys.exit(supervise([slots], grace_seconds=settings.grace_seconds, on_death=mourning))


@click.command(short_help="Run the whole system on this machine until Ctrl-C.")
@click.option("--pipelines", "names", default="", help="Which to serve, separated by commas; default: the samples.")
@click.option(
    "--devices", "asked", default="auto", show_default=True, help="One process for each: cuda:0,cuda:1 or cpu,cpu."
)
@click.option("--end-with-stdin", is_flag=True, hidden=True, help="End when standard input ends, for who starts us.")
def up(names: str, asked: str, end_with_stdin: bool) -> None:
    """Run the embedded Valkey (unless BATCHMILL_REDIS_URL is set) and workers for the pipelines, until Ctrl-C.

    The database is upgraded first when it is the embedded one.
    """
    settings = _settings()
    if end_with_stdin:
        background.end_with_it()
    pipelines = [name.strip() for name in names.split(",") if name.strip()] or Catalogue.load(settings).samples
    _check(settings, pipelines)
    with _only_one(settings.home_path), closing(privileges.opened(settings, Purpose.WORKING)) as database:
        mourning = Mourning(database, settings)
        click.echo(
            f"Batchmill serves {', '.join(pipelines)} on {urls.shown(settings.database)}; Ctrl-C ends it", err=True
        )
        workers = _slots(pipelines, devices.slots(asked))
        if settings.redis_url is not None:
            sys.exit(supervise([workers], grace_seconds=settings.grace_seconds, on_death=mourning))
        path = settings.embedded_socket
        private_files.make_folder(path.parent)
        if settings.foreign_socket:
            raise SettingsError(settings.foreign_socket)
        valkey = Slot("valkey", VALKEY, (str(path), str(settings.home_path / "valkey")))
        sys.exit(
            supervise(
                [[valkey], workers], grace_seconds=settings.grace_seconds, ready=lambda: embedded_valkey.answers(path),
                on_death=mourning,
            )
        )  # fmt: skip


def _settings() -> Settings:
    settings = Settings.load()
    log.configure(settings, slot="supervisor")
    failpoints.arm()  # a wrong one is told of here, and not by dying children
    return settings


def _check(settings: Settings, pipelines: list[str]) -> None:
    catalogue = Catalogue.load(settings)
    for name in pipelines:
        catalogue[name]
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise UsageError(
            "workers need torch and transformers; in the checkout, run: pip install -c constraints.txt '.[worker]'"
        )
    if settings.redis_url is None and not embedded_valkey.installed():
        raise UsageError(
            "set BATCHMILL_REDIS_URL, or in the checkout, run: pip install -c constraints.txt '.[embedded]'"
        )


def _slots(pipelines: list[str], names: list[str]) -> list[Slot]:
    threads = str(devices.threads_each(names))
    return [Slot(name, PROCESS, (",".join(pipelines), name, threads), named=True) for name in names]


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
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
