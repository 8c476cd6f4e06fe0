"""The question-answering task finds the span of a context that answers a question."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from models.tasks.fields import TextField
from models.tasks.spec import Parameters, TaskSpec


class QuestionAnsweringParameters(Parameters):
    """Parameters of `pipeline("question-answering")` in transformers 4; lengths are in tokens."""

    top_k: int = Field(
        default=1, ge=1, le=100, description="How many answers to give, best first; more than one come as a list."
    )
    doc_stride: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="How many tokens neighbouring windows of a long context share; null: half a window, at most 128.",
    )
    max_answer_len: int = Field(default=15, ge=1, le=10_000, description="The longest answer.")
    max_seq_len: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="The longest window, with the question in it; null: 384, or the model's limit where that is less.",
    )
    max_question_len: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Taken but without effect, as in transformers: with fast tokenizers a question is never cut.",
    )
    handle_impossible_answer: bool = Field(
        default=False, description='Whether "" may be the answer, where the context holds none.'
    )
    align_to_words: bool = Field(default=True, description="Whether an answer that begins or ends in a word takes all.")

    @field_validator("max_seq_len")
    @classmethod
    def _check_max_seq_len(cls, value: int | None, info: ValidationInfo) -> int | None:
        shared = info.data.get("doc_stride")
        if value is not None and shared is not None and shared >= value:
            raise PydanticCustomError("max_seq_len", "must be greater than doc_stride, or windows would stand still")
        return value


_CONTEXT = "My name is Wolfgang and I live in Berlin."
_ANSWER: dict[str, Any] = {"score": 0.9912, "start": 34, "end": 40, "answer": "Berlin"}

QUESTION_ANSWERING = TaskSpec(
    name="question-answering",
    aliases=(),
    summary="Find the answer to a question in a text, however long, with an extractive model.",
    fields=(
        TextField("question", "What is asked.", bare_type=None),
        TextField("context", "The text that holds the answer.", bare_type=None),
    ),
    parameters=QuestionAnsweringParameters,
    output_description=(
        '{"score": number, "start": number, "end": number, "answer": text}, with the answer at context[start:end] in '
        "characters; with top_k a list of them, best first, where there is more than one"
    ),
    example_input={"question": "Where do I live?", "context": _CONTEXT},
    example_output=_ANSWER,
    supports_stride=True,
)
