"""The zero-shot-classification task chooses among labels given with the input or batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from models.errors import JobError
from models.tasks.fields import (
    MAX_SHORT_TEXT_CHARACTERS,
    ShortText,
    TextField,
    describe_type,
    is_storable,
    parse_json_list,
)
from models.tasks.spec import Parameters, TaskSpec

# Each label costs a forward pass over the whole text.
MAX_LABELS = 500


def parse_labels(name: str, value: object) -> list[str]:
    """Parse labels from a list, or from text with a JSON list or comma-separated labels.

    Raises JobError if labels are not distinct.
    """
    value = parse_json_list(value)
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",") if label.strip()]
    if not isinstance(value, list | tuple):
        raise JobError(
            "not_text", f"{name} must be a list of texts, or one text with commas, not {describe_type(value)}"
        )
    if not value:
        raise JobError("no_labels", f"{name} is empty; give at least one label")
    if len(value) > MAX_LABELS:
        raise JobError("too_many_labels", f"{name} has {len(value):,} labels; at most {MAX_LABELS} are taken")
    for number, label in enumerate(value, start=1):
        _check_label(f"label {number} of {name}", label)
    if len({label.strip() for label in value}) < len(value):
        raise JobError("repeated_label", f"{name} has a label twice, which would share its score; name each once")
    return list(value)


@dataclass(frozen=True, slots=True)
class LabelsField:
    """The labels of an input, stored as a list."""

    name: str
    help: str
    required: bool = False
    bare_type: type | None = None

    def check(self, value: object) -> list[str]:
        """Return the labels to store, as `parse_labels` does."""
        return parse_labels(self.name, value)


def _check_label(name: str, label: object) -> None:
    if not isinstance(label, str):
        raise JobError("not_text", f"{name} must be text, not {describe_type(label)}")
    if not label.strip():
        raise JobError("empty_label", f"{name} is blank; leave it out")
    if len(label) > MAX_SHORT_TEXT_CHARACTERS:
        raise JobError(
            "label_too_long", f"{name} has {len(label):,} characters; at most {MAX_SHORT_TEXT_CHARACTERS:,} are taken"
        )
    if not is_storable(label):
        raise JobError("invalid_text", f"{name} has a NUL character or half a surrogate pair; mend its encoding")


def _validate_labels(value: object) -> list[str]:
    try:
        return parse_labels("it", value)
    except JobError as error:
        raise PydanticCustomError("labels", "{problem}", {"problem": str(error)}) from None


def _check_template(value: str) -> str:
    """Check for exactly one plain {}: a format spec could request gigabytes, an attribute could expose internals."""
    try:
        placeholders = [part[1:] for part in Formatter().parse(value) if part[1] is not None]
    except ValueError as error:
        raise PydanticCustomError("template", "it is no template: {problem}", {"problem": str(error)}) from None
    if placeholders != [("", "", None)]:
        raise PydanticCustomError("template", "it must have {} once, for the label, with nothing between the braces")
    return value


class ZeroShotParameters(Parameters):
    """Parameters of `pipeline("zero-shot-classification")`."""

    candidate_labels: Annotated[list[str], BeforeValidator(_validate_labels)] | None = Field(
        default=None,
        description=f"The labels for inputs without their own, at most {MAX_LABELS}: a list, or text with commas.",
    )
    hypothesis_template: Annotated[ShortText, AfterValidator(_check_template)] = Field(
        default="This example is {}.", description="The sentence that a label makes true or false; {} is the label."
    )
    multi_label: bool = Field(
        default=False, description="Whether each label is judged alone; otherwise the scores add up to 1."
    )


def _check_labels_present(stored: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    if "candidate_labels" not in stored and not parameters.get("candidate_labels"):
        raise JobError("no_labels", "candidate_labels is missing; give it with the input or as a parameter")


ZERO_SHOT_CLASSIFICATION = TaskSpec(
    name="zero-shot-classification",
    aliases=(),
    summary="Score texts against labels of your own, without training.",
    fields=(
        TextField("text", "The text to label."),
        LabelsField(
            "candidate_labels",
            f"The labels to choose from, at most {MAX_LABELS}: a list, or text with commas. Unset: the parameter's.",
        ),
    ),
    parameters=ZeroShotParameters,
    output_description='{"sequence": the text, "labels": [text], "scores": [number]}, best first',
    example_input={"text": "My phone does not start any more.", "candidate_labels": ["phone", "tablet"]},
    example_output={
        "sequence": "My phone does not start any more.",
        "labels": ["phone", "tablet"],
        "scores": [0.9871, 0.0129],
    },
    check_input=_check_labels_present,
    supports_stride=True,
    aggregates_windows=True,
)
