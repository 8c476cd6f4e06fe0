"""Each log event has its line in logs.md, with its levels and fields, and each line there is an event."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import batchmill
from producer.schedules.alerts.events import EventKind

ROOT = Path(batchmill.__file__).parent
PAGE = (ROOT / "docs" / "reference" / "logs.md").read_text("utf-8")
EVENT_NAME = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
LOGGERS = ("log", "logger", "_log")
ALERT_FIELDS = frozenset({"schedule", "scheduled_at"})
EFFECT_FIELDS = frozenset({"maintenance_task", "effect"})
CRASH_FIELDS = frozenset({"error", "location", "count"})
# Their names are given elsewhere: to a MaintenanceTask, and to an UnexpectedErrorLog.
NAMED_ELSEWHERE = ("self._event",)


@dataclass
class LogEvent:
    """An event: the levels at which it is logged, and its fields."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class LogCall:
    """A place in the source that logs an event."""

    place: str
    event: str
    level: str
    fields: frozenset[str]


def quoted(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, as cells."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]


def documented_events() -> dict[str, LogEvent]:
    return {
        name.strip(" `"): LogEvent({level.strip() for level in levels.split(",")}, quoted(fields))
        for name, levels, _, fields in table("Events")
    }


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_log_call(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
        return False
    owner = call.func.value
    return (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) in LOGGERS


def text_of(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def calls_of(path: Path) -> Iterator[LogCall]:
    """What a module logs; the standard library's messages are an event followed by `field=%s`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        place = f"{path.relative_to(ROOT)}:{node.lineno}"
        keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        if called_name(node) == "MaintenanceTask":
            level = "info" if "is_routine" in keywords else "warning"
            yield LogCall(place, text_of(keywords["event"]), level, EFFECT_FIELDS)
        elif called_name(node) == "UnexpectedErrorLog":
            yield LogCall(place, text_of(node.args[1]), "error", CRASH_FIELDS)
        elif is_log_call(node) and text_of(node.args[0]) not in NAMED_ELSEWHERE:
            level = called_name(node).replace("exception", "error")
            event, *rest = text_of(node.args[0]).split(" ", 1)
            fields = set(keywords) | set(re.findall(r"(\w+)=", "".join(rest)))
            yield LogCall(place, event, level, frozenset(fields - {"exc_info"}))


@cache
def logged_calls() -> list[LogCall]:
    paths = [path for room in ("models", "producer", "worker") for path in sorted((ROOT / room).rglob("*.py"))]
    calls = [call for path in [ROOT / "batchmill.py", *paths] for call in calls_of(path)]
    return calls + [LogCall("events", f"schedule.{kind.value}", kind.log_level, ALERT_FIELDS) for kind in EventKind]


def test_every_event_is_named_alike() -> None:
    assert [call for call in logged_calls() if not EVENT_NAME.fullmatch(call.event)] == []


def test_the_page_has_the_events_and_levels_that_there_are() -> None:
    levels: dict[str, set[str]] = {}
    for call in logged_calls():
        levels.setdefault(call.event, set()).add(call.level)

    assert len(levels) > 60
    assert {name: event.levels for name, event in documented_events().items()} == levels
    assert list(documented_events()) == sorted(levels)


def test_the_page_has_the_fields_of_every_call() -> None:
    documented = documented_events()

    assert [
        (call.place, missing) for call in logged_calls() if (missing := call.fields - documented[call.event].fields)
    ] == []


def test_the_page_explains_every_field_and_no_other() -> None:
    explained = [name for first, *_ in table("Fields") for name in sorted(quoted(first))]

    assert len(explained) == len(set(explained)), "one meaning each"
    assert set(explained) == set().union(*(event.fields for event in documented_events().values()))
