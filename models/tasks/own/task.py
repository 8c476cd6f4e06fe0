"""A task of one's own, as its author writes it down; `batchmill.Task` is this class. Version 1 of the interface."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from models.tasks.fields import TextField
from models.tasks.spec import Parameters

API_VERSION = 1

# A text of an input, checked as the texts of every task are: not blank, of bounded length, and storable.
TEXT_CHECK = AfterValidator(TextField("the text", "").check)
Text = Annotated[str, TEXT_CHECK]


class TaskInput(BaseModel):
    """The base of an input, whose fields are the columns that a submitter gives; `batchmill tasks` shows their help."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NoParameters(Parameters):
    """The parameters of a task that has none."""


def never_random(_parameters: Mapping[str, Any]) -> bool:
    """The default of `Task.is_random`."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task: what submitters send and get, and which adapter computes it.

    name: small letters, digits and hyphens; it is recorded with every batch.
    summary: one sentence for `batchmill tasks`.
    adapter: the reference of the adapter's class, `my_package.adapter:MyAdapter`; only workers import it.
    input: the fields of one input.
    parameters: what a batch may set; an allowlist.
    output: one sentence that says what a result's output looks like.
    example_input, example_output: an input of the task and the output that it might get. A worker tries the example,
        and longer and shorter ones like it, when it loads a model.
    example_parameters: parameters for that trial, where the task can't do without any.
    aliases: further names of the task.
    is_random: whether, given a batch's parameters, equal inputs may get different outputs.
    api_version: the version of this interface that the task was written for.
    """

    name: str
    summary: str
    adapter: str
    input: type[TaskInput]
    output: str
    example_input: dict[str, Any]
    example_output: Any
    parameters: type[Parameters] = NoParameters
    example_parameters: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    is_random: Callable[[Mapping[str, Any]], bool] = never_random
    api_version: int = API_VERSION
