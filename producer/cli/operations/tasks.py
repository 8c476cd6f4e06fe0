"""`batchmill tasks` lists the tasks, or explains one task's inputs, parameters and output."""

from typing import Any, get_args

import click

from models.pipelines.catalogue import Catalogue
from models.pipelines.options.generation_limits import GenerationLimits
from models.privacy import terminal
from models.settings import Settings
from models.tasks.generic.transformers_pipeline import PREFIX as TRANSFORMERS_PREFIX
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.own.registry import BrokenTask
from models.tasks.question_answering import QUESTION_ANSWERING
from models.tasks.spec import TaskSpec, WindowAggregation
from models.tasks.text_generation import TEXT_GENERATION
from producer.catalogue import task_objects
from producer.cli import common

BOUND_WORDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "over", "exclusiveMaximum": "under"}

ENTRY_PARAMETERS_HELP = "Each one that the operator's catalogue entry lists under parameters, and no other."


@click.command(short_help="List the tasks, or explain one.")
@click.argument("name", required=False)
@common.json_option
def tasks(name: str | None, as_json: bool) -> None:
    """List the tasks, those of installed packages and of batchmill.toml among them, or explain the task NAME.

    The explanation has its inputs, its parameters and its output.
    """
    if name:
        spec = task_objects.find_task(name)
        if as_json:
            terminal.echo_json(task_objects.task_object(spec) | {"limits": _limits_in_force(spec)})
        else:
            _print_explanation(spec)
        return
    specs = task_objects.list_tasks()
    if as_json:
        terminal.echo_list([task_objects.task_object(spec) for spec in specs])
    else:
        click.echo(terminal.format_table(("TASK", "ALSO CALLED", "WHAT"), [_table_row(spec) for spec in specs]))


def _print_explanation(spec: TaskSpec) -> None:
    click.echo(_explain(spec))
    if limits := _limits_in_force(spec):
        rows = [(pipeline, *values.values()) for pipeline, values in limits.items()]
        click.echo()
        click.echo(terminal.format_table(("LIMITS IN FORCE", *GenerationLimits.model_fields), rows))


def _table_row(spec: TaskSpec | BrokenTask) -> list[object]:
    if isinstance(spec, BrokenTask):
        return [spec.name, "", f"can't be used ({spec.origin}): {spec.problem}"]
    return [spec.name, ", ".join(spec.aliases), spec.summary]


def _explain(spec: TaskSpec) -> str:
    inputs = [(field.name, "required" if field.required else "optional", field.help) for field in spec.fields]
    parameters = [
        (name, _describe_schema(schema), _describe_default(schema.get("default")), schema.get("description", ""))
        for name, schema in task_objects.parameter_schemas(spec).items()
    ]
    if not parameters and spec.name.startswith(TRANSFORMERS_PREFIX):
        parameters = [("NAME", "as in the entry", "unset", ENTRY_PARAMETERS_HELP)]
    kind = "KIND (LESS: LIMITS IN FORCE, BELOW)" if spec is TEXT_GENERATION else "KIND"
    return "\n".join(
        (
            f"{spec.name}: {spec.summary}\n",
            terminal.format_table(("INPUT", "", "WHAT"), inputs),
            "",
            terminal.format_table(("PARAMETER", kind, "DEFAULT", "WHAT"), parameters),
            "",
            terminal.format_pairs(
                [
                    *([("long texts", _describe_windows(spec))] if spec.supports_stride else []),
                    ("output", spec.output_description),
                    ("example input", terminal.compact_json(spec.example_input)),
                    ("example output", terminal.compact_json(spec.example_output)),
                    *(
                        [("code", spec.code_version or "its adapter is not on this machine")]
                        if isinstance(spec, OwnTaskSpec)
                        else []
                    ),
                ]
            ),
        )
    )


def _describe_windows(spec: TaskSpec) -> str:
    """Say what a pipeline's entry can do about texts beyond its model's limit."""
    if spec is QUESTION_ANSWERING:
        return "contexts are read in overlapping windows"
    windows = 'truncation = "stride" of the pipeline reads them in overlapping windows'
    if not spec.aggregates_windows:
        return windows
    choices = ", ".join(get_args(WindowAggregation))
    return f"{windows}; window_aggregation is {choices}, and {spec.default_window_aggregation} if unset"


def _limits_in_force(spec: TaskSpec) -> dict[str, dict[str, Any]]:
    return task_objects.limits_in_force(spec, Catalogue.load(Settings.load()))


def _describe_default(value: Any) -> str:
    return "unset" if value is None else terminal.compact_json(value)


def _describe_schema(schema: dict[str, Any]) -> str:
    """Return a JSON schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(map(_describe_schema, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    bounds = [f"{words} {schema[key]:,}" for key, words in BOUND_WORDS.items() if key in schema]
    return " ".join([str(schema.get("const", schema.get("type", "any"))), ", ".join(bounds)]).rstrip()
