"""Batchmill: Hugging Face pipelines over bulk data. The console command and the Python API.

    from batchmill import Client, NotFound

Commands, `Client` and the errors are imported on first use, so that `batchmill --help` loads nothing but click. In a
checkout this is a module beside the packages `models`, `producer` and `worker`; in the wheel it is the package that
contains them.
"""

import gc
import importlib
import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

if TYPE_CHECKING:
    from models.errors import *  # noqa: F403
    from models.tasks.own.task import Task as Task
    from models.tasks.own.task import TaskInput as TaskInput
    from models.tasks.own.task import Text as Text
    from models.tasks.spec import Parameters as Parameters
    from producer.batches.batch_view import JobCounts as JobCounts
    from producer.client import Client as Client
    from producer.handle import BatchHandle as BatchHandle
    from producer.results.result_row import ResultRow as ResultRow
    from worker.adapters.control.logits_control import LogitsControl as LogitsControl
    from worker.adapters.control.logits_control import LogitsRow as LogitsRow
    from worker.adapters.own.task_adapter import AdapterOptions as AdapterOptions
    from worker.adapters.own.task_adapter import ModelRow as ModelRow
    from worker.adapters.own.task_adapter import TaskAdapter as TaskAdapter

PREFIX = f"{__name__}." if "__path__" in globals() else ""  # our packages are inside this one in the wheel

API = {  # the errors are found in models.errors
    "Client": "producer.client",
    "BatchHandle": "producer.handle",
    "JobCounts": "producer.batches.batch_view",
    "ResultRow": "producer.results.result_row",
    "Task": "models.tasks.own.task",
    "TaskInput": "models.tasks.own.task",
    "Text": "models.tasks.own.task",
    "Parameters": "models.tasks.spec",
    "TaskAdapter": "worker.adapters.own.task_adapter",
    "ModelRow": "worker.adapters.own.task_adapter",
    "AdapterOptions": "worker.adapters.own.task_adapter",
    "LogitsControl": "worker.adapters.control.logits_control",
    "LogitsRow": "worker.adapters.control.logits_control",
}

WORKER_PACKAGES = ("huggingface_hub", "numpy", "torch", "transformers")  # packages of the extra `worker`

RUST_PANIC_MODULE = "pyo3_runtime"  # Rust panics derive from BaseException, not from Exception

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as in shells
EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE, the usual status when `head` closes the pipe

# Result rows trigger the cyclic garbage collector every few pages, which costs 40 ms each time. Our objects rarely form
# cycles, so the thresholds are raised.
GC_THRESHOLDS = (50_000, 20, 100)


def __getattr__(name: str) -> Any:
    """Import `Client`, `BatchHandle` or an error on first use."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(PREFIX + API.get(name, "models.errors"))
    if name in API or isinstance(getattr(module, name, None), type):
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Command(NamedTuple):
    """The module and attribute of a command, and its line in `batchmill --help`."""

    module: str
    attribute: str
    help: str


COMMANDS = {
    "up": Command("worker.cli.run", "up", "Run the whole system on this machine until Ctrl-C."),
    "down": Command("worker.cli.down", "down", "Stop what `batchmill up` started."),
    "submit": Command("producer.cli.batches.submit", "submit", "Submit a file of inputs as one batch."),
    "ls": Command("producer.cli.batches.ls", "ls", "List batches, the newest first."),
    "show": Command("producer.cli.batches.show", "show", "Show one batch."),
    "wait": Command("producer.cli.batches.wait", "wait", "Wait until a batch has ended."),
    "watch": Command("producer.cli.batches.watch", "watch", "Watch a batch while it runs."),
    "cancel": Command("producer.cli.batches.cancel", "cancel", "Cancel a batch."),
    "retry": Command("producer.cli.batches.retry", "retry", "Run a batch's failed jobs again."),
    "delete": Command("producer.cli.batches.delete", "delete", "Delete a batch with its jobs and results."),
    "prune": Command("producer.cli.batches.prune", "prune", "Delete the batches that ended long ago."),
    "results": Command("producer.cli.results.results", "results", "Print a batch's results, or write them to a file."),
    "errors": Command("producer.cli.results.errors", "errors", "Show a batch's failed jobs, or write them to a file."),
    "schedule": Command("producer.cli.schedules.schedule", "schedule", "Manage schedules."),
    "pipelines": Command("producer.cli.operations.pipelines", "pipelines", "List the catalogue's pipelines."),
    "tasks": Command("producer.cli.operations.tasks", "tasks", "List the tasks, or explain one."),
    "tasks check": Command("worker.cli.task_check", "check", "Try a task with its model, and say what to change."),
    "models": Command("worker.cli.models", "models", "List, fetch and explain models."),
    "workers": Command("producer.cli.operations.workers", "workers", "List the worker processes."),
    "audit": Command("producer.cli.operations.audit", "audit", "Verify that every job has exactly one result."),
    "doctor": Command("producer.cli.operations.doctor", "doctor", "Check that every part is there and healthy."),
    "attempts": Command(
        "producer.cli.results.attempts",
        "attempts",
        "Show failed and retried attempts of a batch, or all attempts of one job.",
    ),
    "worker": Command("worker.cli.run", "worker", "Run worker processes for pipelines."),
    "serve": Command("producer.cli.operations.serve", "serve", "Serve the web page and the HTTP API until Ctrl-C."),
    "maintain": Command("worker.cli.maintain", "maintain", "Run maintenance tasks without a worker."),
    "usage": Command("producer.cli.operations.usage", "usage", "Report what each tenant has computed."),
    "keys": Command("producer.cli.operations.keys", "keys", "Manage the API keys of the server."),
    "db": Command("producer.cli.operations.db", "db", "Manage the database's tables."),
    "demo": Command(
        "producer.cli.demo.demo", "demo", "See all ten tasks and four guards at work in a minute, on bundled inputs."
    ),
}


HIDDEN_COMMANDS = {  # started by other processes
    "intake": Command("producer.cli.operations.intake", "intake", "Read uploaded files into their batches."),
    "webhooks": Command("producer.cli.operations.webhooks", "webhooks", "Send due events to their webhooks."),
}


class LazyGroup(click.Group):
    """The command group: imports each command on first use and prints every error as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if it does not exist."""
        entry = COMMANDS.get(cmd_name) or HIDDEN_COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(PREFIX + entry.module), entry.attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command of one or two words, but never repeat a URL, which may contain a password."""
        if "://" in args[0]:
            ctx.fail("a URL stands where a command is due; give it as --database-url or --redis-url")
        # `tasks` is a light command of submitters, and `tasks check` loads a model.
        two_words = " ".join(args[:2])
        if two_words in COMMANDS:
            return two_words, self.get_command(ctx, two_words), args[2:]
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            module = importlib.import_module(f"{PREFIX}producer.cli.unknown_command")
            advice = module.advise(args[0], list(COMMANDS))
            ctx.fail(f"there is no command {args[0][:80]!r}; {advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn any exception into one sentence and an exit code."""
        _escape_unencodable(sys.stdout)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _print_message("interrupted")
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _discard_stdout()
            ctx.exit(EXIT_PIPE_CLOSED)
        except Exception as error:
            ctx.exit(_report_error(error))
        except BaseException as error:
            if type(error).__module__ != RUST_PANIC_MODULE:
                raise
            ctx.exit(_report_error(error))
        return result


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help="Where the embedded database and Valkey live (BATCHMILL_HOME).")
@click.option("--database-url", metavar="URL", help="PostgreSQL or SQLite (BATCHMILL_DATABASE_URL).")
@click.option("--redis-url", metavar="URL", help="Redis or Valkey (BATCHMILL_REDIS_URL).")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _parameter, is_set: is_set and _print_version(ctx),
    help="Show the version with its commit, and exit.",
)
@click.pass_context
def cli(ctx: click.Context, /, **flags: str | None) -> None:
    """Run Hugging Face pipelines over bulk data: every input ends as one row in SQL.

    To see it work: batchmill demo. Exit codes: 0 done, 1 failed, 2 invalid request, 3 done with failed jobs,
    4 not found, 5 Redis or the database unreachable, 6 tables of another version, 124 the wait timed out,
    130 interrupted.
    """
    for flag, value in flags.items():
        if value is not None:
            _override_environment(ctx, f"BATCHMILL_{flag.upper()}", value)
    if any(name.upper().startswith("BATCHMILL_") for name in os.environ) and "--exit-with-parent" not in sys.argv:
        _warn_about_unknown_variables()


def main() -> NoReturn:
    """Run the console command."""
    gc.set_threshold(*GC_THRESHOLDS)
    sys.excepthook = lambda _kind, error, _trace: _print_uncaught(error)
    threading.excepthook = lambda ended: _print_uncaught(ended.exc_value)
    sys.exit(cli(prog_name="batchmill"))


def _print_version(ctx: click.Context) -> NoReturn:
    from models.version import full_version  # imported here so that other commands never ask git

    click.echo(f"batchmill, version {full_version()}")
    ctx.exit()


def _override_environment(ctx: click.Context, variable: str, value: str) -> None:
    # Set in the environment, so that lazily imported modules and child processes see it too.
    before = os.environ.get(variable)
    os.environ[variable] = value
    ctx.call_on_close(lambda: os.environ.pop(variable) if before is None else os.environ.update({variable: before}))


def _warn_about_unknown_variables() -> None:
    from models.settings import unknown_variables

    for problem in unknown_variables(os.environ):
        _print_message(f"warning: {problem}")


def _escape_unencodable(stream: Any) -> None:
    # An encoding such as Latin-1 has no emoji: print an escape rather than fail.
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def _report_error(error: BaseException) -> int:
    from models.errors import BatchmillError
    from models.privacy import tracebacks

    if os.environ.get("BATCHMILL_DEBUG", "").lower() in ("1", "true", "yes", "on"):
        click.echo(tracebacks.format_error(error), err=True)
    if isinstance(error, BatchmillError):
        _print_message(str(error))
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in WORKER_PACKAGES:
        _print_message(
            "this command needs what workers need; in the checkout, run: pip install -c constraints.txt '.[worker]'"
        )
        return 2
    if isinstance(error, OSError | MemoryError):
        _print_message(_system_error_message(error))
        return 1
    # The message is left out: drivers and parsers may quote an input in it.
    _print_message(
        f"a defect in Batchmill ({type(error).__name__}); run again with BATCHMILL_DEBUG=1 to see where it comes from"
    )
    return 1


def _print_uncaught(error: BaseException | None) -> None:
    from models.privacy import tracebacks  # imported here so that `--help` stays fast

    tracebacks.print_error(error)


def _system_error_message(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    where = f" at {error.filename}" if isinstance(error.filename, str) and "://" not in error.filename else ""
    return f"the system refused this{where}: {error.strerror or type(error).__name__}"


def _print_message(message: str) -> None:
    click.echo(f"batchmill: {message}", err=True)


def _discard_stdout() -> None:
    # Python flushes stdout again at exit and would report the closed pipe there.
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
