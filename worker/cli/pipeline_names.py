"""The options that name pipelines: `A B`, `--pipelines A,B` and `-p A -p B` mean the same."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from models.errors import UsageError


def several(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that passes the named pipelines as the argument `names`, each once and in order.

    default: what an empty list means, for the help; empty = a name is required
    """
    text = f"Separated by commas{f'; default: {default}' if default else ''}."

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(*args: Any, pipelines: tuple[str, ...], listed: str, named: tuple[str, ...], **options: Any) -> Any:
            words = [word.strip() for text in (*pipelines, listed, *named) for word in text.split(",")]
            names = list(dict.fromkeys(word for word in words if word))
            if not names and not default:
                raise UsageError("name at least one pipeline; list them: batchmill pipelines")
            return command(*args, names=names, **options)

        for option in (
            click.option("--pipeline", "-p", "named", multiple=True, metavar="NAME", help="May be repeated."),
            click.option("--pipelines", "listed", default="", metavar="NAMES", help=text),
            click.argument("pipelines", nargs=-1),
        ):
            run = option(run)
        return run

    return decorate


def single(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command that takes one pipeline, as `PIPELINE` or `-p NAME`, and gets it as `pipeline`."""

    @wraps(command)
    def run(*args: Any, pipeline: str | None, named: str | None, **options: Any) -> Any:
        if (pipeline is None) == (named is None):
            raise UsageError("name one pipeline; list them: batchmill pipelines")
        return command(*args, pipeline=pipeline or named, **options)

    run = click.option("--pipeline", "-p", "named", metavar="NAME", help="The same as PIPELINE.")(run)
    return click.argument("pipeline", required=False)(run)
