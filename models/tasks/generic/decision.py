"""The decision task answers typed questions about a state with a probability for every option."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS, ShortText, describe_type
from models.tasks.generic.json_values import JsonField, check_json, parse_json
from models.tasks.spec import Parameters, TaskSpec

MAX_QUESTIONS = 100
MAX_OPTIONS = 100

Content = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)] | dict[str, Any] | list[Any]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    instructions: Content | None = None


class YesNoQuestion(_Question):
    """A question whose answer is the probability of yes."""

    type: Literal["noul"]
    criteria: dict[Literal["true", "false"], Content | None] | None = None


class ChoiceQuestion(_Question):
    """A question with named options, each with a description or null."""

    type: Literal["choice"]
    criteria: Annotated[dict[ShortText, Content | None], Field(min_length=1, max_length=MAX_OPTIONS)]


class ScoreQuestion(_Question):
    """A question with levels, the lowest first."""

    type: Literal["score"]
    criteria: Annotated[list[Content], Field(min_length=1, max_length=MAX_OPTIONS)]


Question = Annotated[YesNoQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]
QUESTIONS: TypeAdapter[dict[str, Any]] = TypeAdapter(
    Annotated[dict[ShortText, Question], Field(min_length=1, max_length=MAX_QUESTIONS)]
)
SHAPE = (
    'write {"name": {"type": "noul", "choice" or "score", "instructions": text, "criteria": the options}}, '
    "see transformers' DecisionPipeline"
)


def check_questions(value: object) -> dict[str, Any]:
    """Return the questions to store; raises JobError if their form is wrong."""
    value = parse_json(value)
    if not isinstance(value, Mapping):
        raise JobError("invalid_questions", f"questions must be an object, not {describe_type(value)}; {SHAPE}")
    questions: dict[str, Any] = check_json("questions", value)
    try:
        QUESTIONS.validate_python(questions)
    except ValidationError:
        raise JobError("invalid_questions", f"questions can't be read; {SHAPE}") from None
    return questions


def _validate_questions(value: object) -> dict[str, Any]:
    try:
        return check_questions(value)
    except JobError as error:
        raise PydanticCustomError("questions", "{problem}", {"problem": str(error)}) from None


@dataclass(frozen=True, slots=True)
class QuestionsField:
    """An object of questions by name."""

    name: str
    help: str
    required: bool = False
    bare_type: type | None = None

    def check(self, value: object) -> dict[str, Any]:
        """Return the questions to store; raises JobError if their form is wrong."""
        return check_questions(value)


class DecisionParameters(Parameters):
    """Parameters of the decision task."""

    questions: Annotated[dict[str, Any], BeforeValidator(_validate_questions)] | None = Field(
        default=None, description="The questions for inputs without their own, by name."
    )


def _check_questions_present(stored: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    if "questions" not in stored and not parameters.get("questions"):
        raise JobError("no_questions", "questions is missing; give it with the input or as a parameter")


DECISION = TaskSpec(
    name="decision",
    aliases=(),
    summary="Answer typed questions about a text or an object with probabilities, by the pipeline of transformers.",
    fields=(
        JsonField(
            "state", "The text or the JSON value that the questions are about.", bare_type=str, parses_text=False
        ),
        QuestionsField("questions", "The questions by name, each with a type and options. Unset: the parameter's."),
    ),
    parameters=DecisionParameters,
    output_description=(
        'by question: noul {"type", "noul": number}; choice {"type", "choice": text, "confidence", "probabilities"}; '
        'score {"type", "score": number, "legend", "confidence", "probabilities"}'
    ),
    example_input={
        "state": "I was charged twice for my order and want a refund.",
        "questions": {"refund": {"type": "noul", "instructions": "Is a refund requested?"}},
    },
    example_output={"refund": {"type": "noul", "noul": 0.9412}},
    check_input=_check_questions_present,
)
