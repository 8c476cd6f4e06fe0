"""The text-generation task continues a text or answers a chat."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from models.errors import JobError
from models.tasks.fields import MessagesField, TextField
from models.tasks.generation import output_schema, schema_probe
from models.tasks.generation.decoding import DecodingParameters
from models.tasks.spec import TaskSpec


class GenerationParameters(DecodingParameters):
    """Parameters of `pipeline("text-generation")`; the defaults are sampling at temperature 0.7 and 256 tokens."""

    samples_by_default: ClassVar[bool] = True

    return_full_text: bool | None = Field(
        default=None, description="Give the prompt too, which is the default; false gives the new text alone."
    )
    handle_long_generation: Literal["hole"] | None = Field(
        default=None,
        description="hole cuts a prompt's beginning where the new tokens would not fit behind it; else it is refused.",
    )
    continue_final_message: bool | None = Field(
        default=None,
        description="Messages: go on with the last one, don't answer it; by default where it is the assistant's.",
    )
    add_special_tokens: bool | None = Field(
        default=None, description="Whether the tokenizer puts its special tokens around a text; null leaves it to it."
    )
    skip_special_tokens: bool | None = Field(
        default=None, description="Leave special tokens out of the new text, which is the default."
    )
    output_schema: str | dict[str, Any] | None = Field(
        default=None,
        description="What the new text must be: a JSON schema, or a regular expression for all of it; the new text "
        "alone is given.",
    )

    @field_validator("output_schema")
    @classmethod
    def _check_output_schema(
        cls, value: str | dict[str, Any] | None, info: ValidationInfo
    ) -> str | dict[str, Any] | None:
        if value is None:
            return None
        if (info.data.get("num_beams") or 1) > 1:
            raise PydanticCustomError("schema", "takes no beams; set num_beams to 1, or leave one of both out")
        if info.data.get("return_full_text"):
            raise PydanticCustomError("schema", "is for the new text alone; leave return_full_text out")
        try:
            text = output_schema.to_text(value)
        except ValueError as error:
            raise PydanticCustomError("schema", str(error)) from None
        if problem := _find_schema_problem(text):
            raise PydanticCustomError("schema", f"can't be used: {problem}")
        return text


def _find_schema_problem(schema: str) -> str | None:
    """The problem of a schema; None where it can't be tried now, and workers try it again."""
    try:
        return schema_probe.find_problem(schema)
    except OSError:
        return None


def _check_one_prompt(stored: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    if len(stored) != 1:
        count = "neither" if not stored else "both"
        raise JobError("missing_field", f"an input needs either text or messages; this has {count}")


TEXT_GENERATION = TaskSpec(
    name="text-generation",
    aliases=(),
    summary="Continue texts, or answer conversations, with a causal language model.",
    fields=(
        TextField("text", "The text to continue.", required=False),
        MessagesField("messages", 'A conversation to answer: [{"role": "user", "content": text}, …].', required=False),
    ),
    parameters=GenerationParameters,
    is_random=GenerationParameters.is_random,
    output_description=(
        '[{"generated_text": text}], one for each sequence; for messages the list of them with the answer added'
    ),
    example_input={"text": "Once upon a time"},
    example_output=[{"generated_text": "Once upon a time, there was a king who had three daughters."}],
    check_input=_check_one_prompt,
)
