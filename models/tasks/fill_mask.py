"""The fill-mask task predicts the words that fit a masked position."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from models.tasks.fields import ShortText, TextField
from models.tasks.spec import Parameters, TaskSpec

MAX_ANSWERS = 1_000  # for each mask; every answer repeats the whole text
MAX_TARGETS = 1_000


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class FillMaskParameters(Parameters):
    """Parameters of `pipeline("fill-mask")`."""

    top_k: int = Field(
        default=5, ge=1, le=MAX_ANSWERS, description="How many words to give for each mask, the likeliest first."
    )
    targets: (
        Annotated[list[ShortText], Field(min_length=1, max_length=MAX_TARGETS), BeforeValidator(_as_list)] | None
    ) = Field(
        default=None,
        description="The only words to choose from: one, or a list; each must be one token of the model's. Their "
        "scores are still those among all words.",
    )


FILL_MASK = TaskSpec(
    name="fill-mask",
    aliases=(),
    summary="Give the words that fit best where a text has a mask.",
    fields=(TextField("text", "The text, with the model's own mask in it: [MASK] for BERT, <mask> for RoBERTa."),),
    parameters=FillMaskParameters,
    output_description=(
        '[{"score": number, "token": number, "token_str": text, "sequence": the text filled in}], best first; '
        "with several masks a list of such lists"
    ),
    example_input={"text": "Paris is the [MASK] of France."},
    example_output=[
        {"score": 0.9823, "token": 3007, "token_str": "capital", "sequence": "paris is the capital of france."}
    ],
)
