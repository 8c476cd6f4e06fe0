"""A pipeline's prompt: templates that turn a row's fields into the text or messages that the model reads. Pure.

The operator sets them, as `prompt` and `system` of a pipeline. Submission records them among a batch's parameters, so
that every worker renders the same. A job keeps its row's fields, which guards read; the worker renders them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from models import tasks
from models.documents import to_json
from models.errors import JobError, UsageError
from models.pipelines.options.text_template import TextTemplate, check_characters
from models.tasks.fields import EXPORTED_NAMES, TextField, describe_type
from models.tasks.spec import TaskSpec
from models.tasks.text_generation import TEXT_GENERATION

PROMPT, SYSTEM = "prompt", "system"  # keys of a pipeline, and of a batch's parameters
TEXT, MESSAGES = "text", "messages"  # the task's fields that a prompt takes the place of
SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class TemplateField(TextField):
    """A field that a template names: text, or a value that is written as text; it may be blank."""

    allows_blank: bool = True

    def check(self, value: object) -> str:
        """Return the text to store; raises JobError if the value is none, or too long."""
        return TextField.check(self, value if isinstance(value, str) else _to_text(self.name, value))


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The templates of a pipeline or batch, of which one is set.

    prompt: the text for the model; None = the task's own field `text` or `messages`.
    system: text-generation: the system message, left out where it is blank; None = there are no messages, but a text.
    """

    prompt: TextTemplate | None
    system: TextTemplate | None

    @property
    def parameters(self) -> dict[str, str]:
        """The templates as a batch's parameters record them."""
        templates = ((PROMPT, self.prompt), (SYSTEM, self.system))
        return {key: template.source for key, template in templates if template is not None}

    @property
    def templates(self) -> list[TextTemplate]:
        """Those that are set."""
        return [template for template in (self.prompt, self.system) if template is not None]

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct names of both templates, those of the prompt first."""
        return tuple(dict.fromkeys(name for template in self.templates for name in template.names))

    def check_task(self, spec: TaskSpec) -> None:
        """Raise ValueError if the task takes no such templates, or has fields or columns of their names."""
        if self.prompt is not None and not any(field.name == TEXT for field in spec.fields):
            raise ValueError(f"{spec.name} reads no single text, which prompt would make; leave prompt out")
        if self.prompt is not None and not self.prompt.names:
            raise ValueError("prompt names no field of a row, so all rows would be the same; write one, such as {text}")
        if self.system is not None and spec.name != TEXT_GENERATION.name:
            raise ValueError(f"{spec.name} has no system message, which is for text-generation; leave system out")
        fields = {field.name for field in spec.fields} - ({TEXT} if self.prompt else set())
        folded: set[str] = set()
        for name in self.names:
            key = name.lower()
            if key in fields or key in EXPORTED_NAMES:
                owner = f"an input of {spec.name}" if key in fields else "a key of results"
                raise ValueError(
                    f"the name {{{name}}} is {owner}; write another, such as {{row_{key}}}, and submit with "
                    f"--input row_{key}=COLUMN"
                )
            if key in folded:
                raise ValueError(f"the name {{{name}}} differs from another only in capitals; make them equal")
            folded.add(key)

    def spec_for(self, spec: TaskSpec) -> TaskSpec:
        """The task's spec with the names of the templates as its fields, in place of the text that they make."""
        bare_type = str if self.prompt is not None else None  # a bare text stands for the only name of a prompt
        named = tuple(
            TemplateField(name, f"What the pipeline's prompt has as {{{name}}}.", bare_type=bare_type)
            for name in self.names
        )
        if self.prompt is None:
            return replace(
                spec, fields=spec.fields + named, check_input=_RenderedCheck(self, spec), complete_input=None
            )
        others = tuple(field for field in spec.fields if field.name not in (TEXT, MESSAGES))
        return replace(spec, fields=named + others, check_input=_RenderedCheck(self, spec), complete_input=None)

    def render(self, job_input: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's input for a row's fields.

        Raises JobError if a field is missing, the text gets too long, or a conversation has its own system message.
        """
        names = set(self.names)
        rendered = {name: value for name, value in job_input.items() if name not in names}
        if self.prompt is not None:
            rendered[TEXT] = self.prompt.render(job_input)
        if self.system is None:
            return rendered
        messages = self._messages(rendered, self.system.render(job_input))
        check_characters(sum(len(message["content"]) for message in messages))
        return {MESSAGES: messages}

    def count_characters(self, job_input: Mapping[str, Any]) -> int:
        """The characters of the rendered templates, without rendering them."""
        return sum([template.count_characters(job_input) for template in self.templates])

    def _messages(self, job_input: Mapping[str, Any], system: str) -> list[dict[str, str]]:
        own = job_input.get(MESSAGES) or [{"role": "user", "content": job_input[TEXT]}]
        if self.has_system_message and any(message["role"] in SYSTEM_ROLES for message in own):
            raise JobError(
                "invalid_messages", "messages has a system message, and the pipeline sets its own; take it out"
            )
        return [{"role": "system", "content": system}, *own] if system.strip() else own

    @property
    def has_system_message(self) -> bool:
        """Whether the pipeline sets a system message; a blank template asks for messages without one."""
        return self.system is not None and bool(self.system.source.strip())


@dataclass(frozen=True, slots=True)
class _RenderedCheck:
    """Checks a row's fields together: what the template makes of them must be an input of the task."""

    template: PromptTemplate
    spec: TaskSpec

    def __call__(self, stored: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        template, check_input = self.template, self.spec.check_input
        if template.prompt is not None:
            self._check_text(stored, template.prompt.names)
        elif check_input is not None:
            check_input({name: value for name, value in stored.items() if name not in template.names}, parameters)
        rendered = template.render(stored)
        if check_input is not None:
            check_input(rendered, parameters)

    def _check_text(self, stored: Mapping[str, Any], names: tuple[str, ...]) -> None:
        if not any(stored[name].strip() for name in names):
            raise JobError("empty_text", f"{' and '.join(names)} have no text; leave the row out or give it text")


@lru_cache(maxsize=256)
def parse_templates(prompt: str | None, system: str | None) -> PromptTemplate | None:
    """Parse the templates of a pipeline or batch; None if it has none. Raises ValueError, as `TextTemplate.parse`."""
    if prompt is None and system is None:
        return None
    return PromptTemplate(
        None if prompt is None else TextTemplate.parse(prompt), None if system is None else TextTemplate.parse(system)
    )


def split_parameters(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], PromptTemplate | None]:
    """Return a batch's parameters of its task, and the templates that are recorded with them."""
    task_parameters = {name: value for name, value in parameters.items() if name not in (PROMPT, SYSTEM)}
    return task_parameters, parse_templates(parameters.get(PROMPT), parameters.get(SYSTEM))


def find_batch_spec(task: str, parameters: Mapping[str, Any]) -> TaskSpec:
    """Find the spec of a batch's inputs: that of its task, with the fields that its recorded templates name.

    Raises UsageError if this machine lacks the task, or can't use it.
    """
    if (spec := find_batch_spec_if_known(task, parameters)) is None:
        raise UsageError(f"this machine lacks the task {task}; install its package, or name it in batchmill.toml")
    return spec


def find_batch_spec_if_known(task: str, parameters: Mapping[str, Any]) -> TaskSpec | None:
    """As `find_batch_spec`; None if this machine lacks the task."""
    spec, (_, template) = tasks.find_spec_if_known(task), split_parameters(parameters)
    return spec if spec is None or template is None else template.spec_for(spec)


def _to_text(name: str, value: object) -> str:
    """Write a value as JSON does; times are written as ISO 8601, decimals with their digits."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, UUID) or (isinstance(value, Decimal) and value.is_finite()):
        return str(value)
    if isinstance(value, (bool, int, float)):
        try:
            return to_json(value)
        except ValueError:
            raise JobError("not_text", f"{name} is a number that JSON can't hold; give it as text") from None
    raise JobError("not_text", f"{name} must be text or a number, not {describe_type(value)}")
