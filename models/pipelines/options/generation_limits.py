"""The limits of text generation: what one row may cost, whatever a batch asks for. The operator may raise each."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.errors import InvalidParameters, JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS
from models.tasks.generation.decoding import MAX_NEW_TOKENS, MAX_SECONDS, MAX_SEQUENCES

CheckInput = Callable[[Mapping[str, Any], Mapping[str, Any]], None]


class GenerationLimits(BaseModel):
    """The table `[pipelines.NAME.limits]` of a text-generation pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    max_new_tokens: int = Field(
        default=256,
        ge=1,
        le=MAX_NEW_TOKENS,
        description="The most new tokens of a text, also where a model names more.",
    )
    max_time: float = Field(
        default=30.0,
        gt=0,
        le=MAX_SECONDS,
        description="The most seconds of the device for a row, as its share of each token's time; a text that takes "
        "longer ends there, and its result is marked truncated.",
    )
    max_prompt_characters: int = Field(
        default=32_000,
        ge=1,
        le=MAX_TEXT_CHARACTERS,
        description="The most characters of a prompt, all messages together.",
    )
    max_return_sequences: int = Field(default=4, ge=1, le=MAX_SEQUENCES, description="The most texts for one prompt.")

    def check_parameters(self, parameters: Mapping[str, Any], pipeline: str) -> None:
        """Raise InvalidParameters that names each parameter over its limit, and the setting to raise."""
        limits = {
            "max_new_tokens": ("max_new_tokens", self.max_new_tokens),
            "min_new_tokens": ("max_new_tokens", self.max_new_tokens),
            "max_time": ("max_time", self.max_time),
            "num_return_sequences": ("max_return_sequences", self.max_return_sequences),
        }
        problems = [
            f"parameter {name!r} is {value:,}, and pipeline {pipeline} takes at most {limit:,}; lower it, or raise "
            f"{setting} in [pipelines.{pipeline}.limits]"
            for name, (setting, limit) in limits.items()
            if (value := parameters.get(name)) is not None and value > limit
        ]
        if problems:
            raise InvalidParameters("; ".join(problems))

    def check_prompt(self, stored: Mapping[str, Any]) -> None:
        """Raise JobError for an input whose prompt has too many characters."""
        messages = stored.get("messages") or ()
        size = len(stored.get("text", "")) + sum(len(message["content"]) for message in messages)
        if size > self.max_prompt_characters:
            raise JobError(
                "text_too_long",
                f"the prompt has {size:,} characters; at most {self.max_prompt_characters:,} are taken, which "
                "max_prompt_characters in the pipeline's limits raises",
            )

    def limit_input(self, check_input: CheckInput | None) -> CheckInput:
        """A check of an input that includes the length of its prompt."""

        def check(stored: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
            if check_input is not None:
                check_input(stored, parameters)
            self.check_prompt(stored)

        return check
