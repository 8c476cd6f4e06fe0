"""Each message on the page of error messages is one that the code has, and each error class has a message there."""

import ast
import re
from pathlib import Path

import batchmill
from models import errors

ROOT = Path(batchmill.__file__).parent
PAGE = (ROOT / "docs" / "reference" / "error-messages.md").read_text("utf-8")
HEADING = re.compile(r"^### `(.+)`$", re.MULTILINE)
CODE = re.compile(r"^`([a-z_]+)`\. ", re.MULTILINE)
HOLE = "…"
# A failed job has the code of its own failure instead.
WITHOUT_MESSAGE = {"job_failed"}


def text_of(node: ast.AST) -> str | None:
    """A text of the code with `…` for each value in it; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or HOLE for part in node.values)
    return None


def texts() -> set[str]:
    """All texts of the modules."""
    modules = [
        ROOT / "batchmill.py",
        *(path for room in ("models", "producer", "worker") for path in (ROOT / room).rglob("*.py")),
    ]
    found = (text_of(node) for path in modules for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return {text for text in found if text and " " in text}


def parts(message: str) -> list[str]:
    """The words of a message between its values."""
    return [part for part in re.split(rf" *{HOLE} *", message) if part]


def occurs(message: str, in_text: str) -> bool:
    """Whether a text has all parts of a message, in their order."""
    place = 0
    for part in parts(message):
        place = in_text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def test_each_message_is_in_the_code() -> None:
    known = texts()
    documented = HEADING.findall(PAGE)

    assert len(documented) > 50
    assert [message for message in documented if not any(occurs(message, text) for text in known)] == []


def test_no_message_is_documented_twice() -> None:
    documented = HEADING.findall(PAGE)

    assert len(documented) == len(set(documented)) == len(CODE.findall(PAGE))


def error_codes(parent: type[errors.BatchmillError] = errors.BatchmillError) -> set[str]:
    below = (error_codes(error) for error in parent.__subclasses__() if error.__module__ == errors.__name__)
    return {parent.code}.union(*below)


def test_each_error_class_has_a_message() -> None:
    assert error_codes() - set(CODE.findall(PAGE)) - WITHOUT_MESSAGE == set()
