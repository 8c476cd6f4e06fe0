"""The text-generation task continues a text or answers a chat."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.errors import JobError
from models.tasks.decoding import DecodingParameters
from models.tasks.fields import MessagesField, TextField
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
