"""What Batchmill says: each sentence names its cause, so that none ends in a colon and none calls data unexpected."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import batchmill
from models.foreign_errors import first_line

ROOT = Path(batchmill.__file__).parent
HOLE = "\0"  # where a value stands
# Besides errors; log events have their own test.
SAYS = {"print_notice", "echo", "_print_message", "Finding", "Problem", "fail"}
# What introduces the lines below it, which are printed next.
INTRODUCES = {f"{HOLE} runs {HOLE}; next:", f"{HOLE} continues; next:"}


def sources() -> list[Path]:
    """All modules but those that only train the samples."""
    found = [
        path
        for room in ("models", "producer", "worker")
        for path in (ROOT / room).rglob("*.py")
        if "training" not in path.parts
    ]
    return [ROOT / "batchmill.py", *found]


def said(node: ast.AST) -> str | None:
    """A text with a hole for each value in it; None where it is no literal."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(said(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp):
        return (said(node.left) or HOLE) + (said(node.right) or HOLE)
    return None


def is_said(call: ast.Call) -> bool:
    """Whether a call makes an error or says something."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in SAYS or (name[:1].isupper() and name not in ("Counter", "Path", "Field"))


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The sentences of a module with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and is_said(node):
            for argument in node.args:
                text = said(argument)
                if text is not None:
                    yield node.lineno, text


@cache
def all_messages() -> list[tuple[str, int, str]]:
    """The sentences of all modules, with their files and lines."""
    return [(str(path.relative_to(ROOT)), line, text) for path in sources() for line, text in messages(path)]


def wrong(text: str) -> bool:
    """Whether a sentence leaves its cause out."""
    return "unexpected" in text.lower() or (text.rstrip().endswith(":") and text not in INTRODUCES)


def test_every_sentence_names_its_cause() -> None:
    assert [message for message in all_messages() if wrong(message[2])] == []


def test_it_finds_them() -> None:
    found = [text for _, _, text in all_messages()]

    assert len(found) > 400
    assert "there is not enough memory for this" not in found  # it is returned, and said by another
    assert any(text.startswith(f"a defect in Batchmill ({HOLE})") for text in found)
    assert wrong("unexpected ValueError") and wrong("it failed: ")  # noqa: PT018


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Connection refused", "Connection refused"),
        ("", "ValueError"),
        ("\n \n", "ValueError"),
        (":", "ValueError"),
        ("All failures were:\n- host: 'a', refused\n- host: 'b'", "All failures were: host: 'a', refused"),
        ("the cause is:", "the cause is"),
        ("\n  first \nsecond", "first"),
    ],
)
def test_somebody_elses_sentence_neither(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line
