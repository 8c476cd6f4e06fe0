"""`batchmill tasks`: what the tasks take and give."""

from typing import Any

import click

from models import tasks as all_tasks
from models.privacy import terminal
from models.tasks.spec import TaskSpec
from producer.cli import common

BOUNDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "over", "exclusiveMaximum": "under"}


@click.command(short_help="List the tasks, or explain one.")
@click.argument("name", required=False)
@common.json_option
def tasks(name: str | None, as_json: bool) -> None:
    """List the tasks, or explain the task NAME: its inputs, its parameters and its output."""
    found = [all_tasks.find(name)] if name else list(all_tasks.TASKS.values())
    if as_json and name:
        terminal.echo_json(_document(found[0]))
    elif as_json:
        terminal.echo_list([_document(spec) for spec in found])
    elif name:
        click.echo(_explained(found[0]))
    else:
        click.echo(terminal.table(("TASK", "ALSO CALLED", "WHAT"), [_line(spec) for spec in found]))


def _line(spec: TaskSpec) -> list[object]:
    return [spec.name, ", ".join(spec.aliases), spec.summary]


def _explained(spec: TaskSpec) -> str:
    inputs = [(f.name, "required" if f.required else "optional", f.help) for f in spec.fields]
    parameters = [
        (name, _kind(schema), terminal.compact(schema.get("default")), schema.get("description", ""))
        for name, schema in _parameters(spec).items()
    ]
    return "\n".join(
        (
            f"{spec.name}: {spec.summary}\n",
            terminal.table(("INPUT", "", "WHAT"), inputs),
            "",
            terminal.table(("PARAMETER", "KIND", "DEFAULT", "WHAT"), parameters),
            "",
            terminal.facts(
                [
                    ("output", spec.output),
                    ("a line in", terminal.compact(spec.example_input)),
                    ("its output", terminal.compact(spec.example_output)),
                ]
            ),
        )
    )


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    bounds = [f"{words} {schema[key]:,}" for key, words in BOUNDS.items() if key in schema]
    return " ".join([str(schema.get("const", schema.get("type", "any"))), ", ".join(bounds)]).rstrip()


def _parameters(spec: TaskSpec) -> dict[str, Any]:
    properties: dict[str, Any] = spec.parameters.model_json_schema().get("properties", {})
    return properties


def _document(spec: TaskSpec) -> dict[str, Any]:
    return {
        "object": "task",
        "name": spec.name,
        "aliases": list(spec.aliases),
        "summary": spec.summary,
        "inputs": [{"name": f.name, "required": f.required, "help": f.help} for f in spec.fields],
        "parameters": _parameters(spec),
        "output": spec.output,
        "example": {"input": spec.example_input, "output": spec.example_output},
    }
