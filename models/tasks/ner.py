"""The ner (token-classification) task tags the words that name persons, places or other entities."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from models.tasks.fields import ShortText, TextField
from models.tasks.spec import Parameters, TaskSpec

MAX_LABELS = 1_000
MAX_STRIDE_TOKENS = 100_000  # tokens; each model's length limits it further


class NerParameters(Parameters):
    """Parameters of `pipeline("ner")`."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None,
        description="How tokens become entities. none, and null: each token by itself; simple: neighbours of one tag; "
        "first, average, max: the same over whole words, by their first token, their mean or their surest.",
    )
    ignore_labels: Annotated[list[ShortText], Field(max_length=MAX_LABELS)] | None = Field(
        default=None, description='Tags to leave out; null leaves out "O", an empty list nothing.'
    )
    stride: int | None = Field(
        default=None,
        ge=0,
        le=MAX_STRIDE_TOKENS,
        description="Read texts past the model's length in windows that share so many tokens, instead of cutting them.",
    )

    @field_validator("stride")
    @classmethod
    def _check_stride(cls, value: int | None, info: ValidationInfo) -> int | None:
        # The pipeline's default. Without aggregation it returns single tokens, indexed from the start of their window.
        if value is not None and info.data.get("aggregation_strategy") == "none":
            raise PydanticCustomError("stride", "it needs an aggregation_strategy: simple, first, average or max")
        return value


NER = TaskSpec(
    name="ner",
    aliases=("token-classification",),
    summary="Find the names in texts: people, places, organisations, or whatever the model tags.",
    fields=(TextField("text", "The text to search."),),
    parameters=NerParameters,
    output_description=(
        '[{"entity" or, aggregated, "entity_group": text, "score": number, "word": text, "start": number, '
        '"end": number, "index": number unless aggregated}]; start and end count characters'
    ),
    example_input={"text": "Sarah lives in London."},
    example_output=[
        {"entity": "B-PER", "score": 0.9989, "index": 1, "word": "Sarah", "start": 0, "end": 5},
        {"entity": "B-LOC", "score": 0.9994, "index": 4, "word": "London", "start": 15, "end": 21},
    ],
    supports_stride=True,
    label_fields=frozenset({"entity", "entity_group"}),
)
