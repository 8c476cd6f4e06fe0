"""The feature-extraction (embeddings) task gives each text a vector, by which texts are searched and compared."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from models.tasks.fields import ShortText, TextField
from models.tasks.spec import Parameters, TaskSpec
from models.vectors import MAX_DIMENSIONS

PoolingName = Literal["mean", "cls", "last", "max", "weighted_mean", "none"]
NO_POOLING = "none"


class FeatureExtractionParameters(Parameters):
    """How the vectors of a text's tokens become one; each is null for the model's own files."""

    pooling: PoolingName | None = Field(
        default=None,
        description="mean, cls, last, max, weighted_mean: of the tokens' vectors; null: as the model's own files say, "
        "else mean, or the last token's of a decoder. none: the vector of every token, as pipeline() gives them, at "
        "most 4,194,304 numbers for a text.",
    )
    normalize: bool | None = Field(
        default=None,
        description="true: divide each vector by its length, also after a cut; false: never; null: as the model's own.",
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DIMENSIONS,
        description="Keep so many of a vector's first numbers, for models that were trained for it (Matryoshka).",
    )
    prompt_name: ShortText | None = Field(
        default=None,
        description="A prompt that the model's own files name, such as query or passage; null: their default, if any.",
    )

    @field_validator("normalize", "dimensions", "prompt_name")
    @classmethod
    def _check_pooling(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("pooling") == NO_POOLING:
            raise PydanticCustomError(
                "pooling", "it has no effect with pooling none; leave it out, or set it to null if the pipeline has it"
            )
        return value


FEATURE_EXTRACTION = TaskSpec(
    name="feature-extraction",
    aliases=("embeddings",),
    summary="Give texts vectors, by which similar ones are found (embeddings).",
    fields=(TextField("text", "The text to embed."),),
    parameters=FeatureExtractionParameters,
    output_description="a list of numbers, stored as a vector; with pooling none [[[number, …] for each token]]",
    example_input={"text": "My card was charged twice."},
    example_output=[0.0471, -0.0118, 0.0352],
    supports_stride=True,
    aggregates_windows=True,
)
