"""The task, without torch."""

from typing import Literal

from pydantic import Field, model_validator

from batchmill import JobError, Parameters, Task, TaskInput, Text


class Reply(TaskInput):
    """One reply."""

    text: Text = Field(description="The reply.")
    context: Text | None = Field(default=None, description="What it replies to.")
    tags: list[str] = Field(default_factory=list, max_length=3, description="Its hashtags.")
    weight: float = Field(default=1.0, ge=0, description="How much the first head counts.")

    @model_validator(mode="after")
    def _check_together(self) -> "Reply":
        if self.context is not None and self.context == self.text:
            raise JobError("same_text", "text and context are the same; leave context out")
        if "secret" in self.tags:
            raise ValueError(f"not {self.tags}")
        return self


class IronyParameters(Parameters):
    """What a batch may set."""

    digits: int = Field(default=4, ge=0, le=8, description="Digits of a score.")
    style: Literal["plain", "verbose"] = Field(default="plain", description="How much is told.")


IRONY = Task(
    name="irony",
    summary="Say whether a reply is ironic, and how its author feels.",
    adapter="irony_tasks.adapter:IronyAdapter",
    input=Reply,
    parameters=IronyParameters,
    output='{"ironic": number, "mood": text}',
    example_input={"text": "What a great idea, really."},
    example_output={"ironic": 0.91, "mood": "angry"},
    aliases=("sarcasm",),
)
