"""Each message on the page of error messages is one that the code has, and each error class has a message there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import batchmill
from models import errors
from producer import advice
from producer.advice import DoorText

ROOT = Path(batchmill.__file__).parent
PAGE = (ROOT / "docs" / "reference" / "error-messages.md").read_text("utf-8")
HEADING = re.compile(r"^### `(.+)`$", re.MULTILINE)
CODE = re.compile(r"^`([a-z_]+)`\. ", re.MULTILINE)
HOLE = "…"
MESSAGE_AND_CODE = re.compile(r"^### `(.+)`\n\n`([a-z_]+)`\. ", re.MULTILINE)
# The page has the code of the most frequent of several errors with such words, whose text is put together elsewhere.
SHARED_WORDS = {"there is no pipeline …", "… has no parameter …; …"}


def text_of(node: ast.AST) -> str | None:
    """A text of the code with `…` for each value in it; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return "".join(text_of(side) or advice_of(side) or HOLE for side in (node.left, node.right))
    return None


def advice_of(node: ast.AST) -> str | None:
    """The advice that is joined to a message, in the words of the command line."""
    if isinstance(node, ast.Name):
        constant = getattr(advice, node.id, None)
        return constant if isinstance(constant, DoorText) else None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    if node.func.id == "DoorText":
        return text_of(node.args[0])
    advise = getattr(advice, node.func.id, None)
    return str(advise(HOLE)) if getattr(advise, "__annotations__", {}).get("return") is DoorText else None


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


def error_classes(
    parent: type[errors.BatchmillError] = errors.BatchmillError,
) -> dict[str, type[errors.BatchmillError]]:
    """All error classes but that of failed jobs, by name."""
    below = [error_classes(error) for error in parent.__subclasses__() if error is not errors.JobError]
    return {parent.__name__: parent} | {name: error for classes in below for name, error in classes.items()}


def raised_texts(path: Path, classes: dict[str, type[errors.BatchmillError]]) -> Iterator[tuple[str, str]]:
    """The code and the text of each error that a module makes with its text in place, or in a constant."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    constants = {
        node.targets[0].id: text
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (text := text_of(node.value))
    }
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes and node.args:
            first = node.args[0]
            text = constants.get(first.id) if isinstance(first, ast.Name) else text_of(first)
            if text:
                yield classes[node.func.id].code, text


def test_each_message_has_the_code_with_which_it_is_raised() -> None:
    classes = error_classes()
    raised = {
        pair
        for room in ("models", "producer", "worker")
        for path in (ROOT / room).rglob("*.py")
        for pair in raised_texts(path, classes)
    }

    wrong = {}
    for message, code in MESSAGE_AND_CODE.findall(PAGE):
        codes = {raised_code for raised_code, text in raised if occurs(message, text)}
        if codes and code not in codes and message not in SHARED_WORDS:
            wrong[message] = codes
    assert len(raised) > 300
    assert wrong == {}


def test_no_message_is_documented_twice() -> None:
    documented = HEADING.findall(PAGE)

    assert len(documented) == len(set(documented)) == len(CODE.findall(PAGE))


def test_each_error_class_has_a_message() -> None:
    codes = {error.code for error in error_classes().values() if error.__module__ == errors.__name__}

    assert codes - set(CODE.findall(PAGE)) == set()
