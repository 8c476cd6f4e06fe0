"""Advice for a command that does not exist."""

from collections.abc import Sequence

from models import validation

# Names that other tools have for what a command does.
OTHER_NAMES = {"list": "ls", "status": "show", "run": "submit", "start": "up", "stop": "down", "rm": "delete"}


def advise(name: str, commands: Sequence[str]) -> str:
    """Return which command may be meant, or which there are."""
    return validation.suggest(name, commands, "there are", OTHER_NAMES)
