"""Advice in the words of each door, and no words of a shell in what other doors say."""

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchmill
from models.errors import NotFound
from producer import advice
from producer.advice import Door, DoorText, in_door, join_texts, message_of

ROOT = Path(batchmill.__file__).parent

# Commands for which HTTP and the pages have nothing of the kind: they start processes and make keys.
WITHOUT_ROUTE = ("keys", "up", "down", "worker", "db", "maintain")
OWN_COMMAND = re.compile(rf"\bbatchmill (?:{'|'.join(WITHOUT_ROUTE)})\b.*", re.DOTALL)
SHELL_WORDS = re.compile(r"\bbatchmill [a-z]+\b|(?<![\w-])--[a-z][a-z-]+")
NO_COMMANDS = ("batchmill source", "batchmill output table ")  # names of a connection and of a lock

# What no client of the server reads as the answer to its request, or reads as what it is: a command.
ELSEWHERE = (
    "models/dialects/driver_errors.py",  # `PUBLIC_MESSAGES` of the server says less
    "models/hardware",
    "models/log.py",
    "models/pipelines/options/prompt_template.py",  # in the operator's batchmill.toml
    "models/postgresql",
    "models/privacy",
    "models/processes",
    "models/settings",
    "models/version.py",
    "producer/cli",
    "producer/health",  # the doctor says what the operator runs on the server's machine
    "producer/readers/files/access.py",  # files of the machine on which a command runs
    "producer/readers/input_source.py",  # options of the command alone
    "producer/readers/mapping_advice.py",  # has the words of each door
    "producer/schedules/config_sync.py",  # the command `schedule sync`
    "producer/server/native/operations",  # of the doctor
    "producer/server/pages/batches/downloads.py",  # shows commands to copy
    "producer/server/pages/operations/pipeline",  # the page of one shows how to submit
    "producer/server/process",  # before the server answers
    "producer/server/run.py",
    "producer/uploads/intake/intake_watch.py",  # starts a command
    "producer/remote/batch.py",  # raised in a client's process
)
# Makes, replaces and removes schedules, which only the command line does.
BY_COMMAND = {
    "producer/schedules/registry.py": ("schedule delete", "--purge", "--replace"),
    "producer/readers/sql/sql_sources.py": ("`--bind`",),  # help for batchmill.toml
}


def modules() -> Iterator[Path]:
    for room in ("models", "producer"):
        for path in (ROOT / room).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(ELSEWHERE):
                yield path


def docstrings(tree: ast.AST) -> set[int]:
    """The nodes of all docstrings."""
    return {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def forms_for_a_shell(tree: ast.AST) -> set[int]:
    """The nodes of the first argument of each DoorText."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    first = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "DoorText")
    return {id(node) for argument in first for node in ast.walk(argument)}


def shell_words(path: Path) -> list[str]:
    """The texts of a module with words of a shell, except the forms for one."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = docstrings(tree) | forms_for_a_shell(tree)
    allowed = BY_COMMAND.get(path.relative_to(ROOT).as_posix(), ())
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
    )
    return [text for text in texts if has_shell_words(text) and not any(word in text for word in allowed)]


def has_shell_words(text: str) -> bool:
    """Whether a text names a command or a flag of one for which the server has its own way."""
    return text not in NO_COMMANDS and SHELL_WORDS.search(OWN_COMMAND.sub("", text)) is not None


def test_no_message_of_the_server_has_words_of_a_shell() -> None:
    found = {str(path.relative_to(ROOT)): texts for path in modules() if (texts := shell_words(path))}

    assert found == {}


@pytest.mark.parametrize("text", ["list them: batchmill ls", "add --cancel", "see batchmill schedule show x"])
def test_words_of_a_shell_are_recognized(text: str) -> None:
    assert has_shell_words(text)


@pytest.mark.parametrize(
    "text",
    ["make one: batchmill keys create --tenant NAME", "GET /api/batches", "the batchmill.toml of workers", "a -- b"],
)
def test_other_words_are_none_of_a_shell(text: str) -> None:
    assert not has_shell_words(text)


def test_an_error_says_what_to_do_in_the_words_of_each_door() -> None:
    error = NotFound("there is no batch 'x'; " + advice.LIST_BATCHES)

    assert str(error) == "there is no batch 'x'; list the batches: batchmill ls"
    assert message_of(error, Door.COMMAND) == str(error)
    assert message_of(error, Door.HTTP) == "there is no batch 'x'; list the batches: GET /api/batches"
    assert message_of(error, Door.PAGE) == "there is no batch 'x'; the page Batches lists all there are"


def test_other_errors_say_the_same_everywhere() -> None:
    assert {message_of(NotFound("gone"), door) for door in Door} == {"gone"}
    assert message_of(ValueError("a", 1), Door.HTTP) == "('a', 1)"
    assert message_of(NotFound(), Door.PAGE) == ""


def test_names_are_quoted_in_addresses() -> None:
    assert in_door(advice.see_runs("a b/c"), Door.HTTP) == "see: GET /api/schedules/a%20b%2Fc/runs"


def test_texts_keep_their_forms_when_they_are_joined() -> None:
    both = join_texts("; ", ["first", DoorText("-x", http="?x", page="X"), "last"])

    assert [in_door(both, door) for door in Door] == ["first; -x; last", "first; ?x; last", "first; X; last"]
    assert join_texts("; ", []) == ""


def test_a_text_passes_between_processes_with_its_forms() -> None:
    error = pickle.loads(pickle.dumps(NotFound("a " + DoorText("-x", http="?x", page="X"))))

    assert message_of(error, Door.HTTP) == "a ?x"
