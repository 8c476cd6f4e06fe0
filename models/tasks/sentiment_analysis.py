"""The sentiment-analysis (text-classification) task assigns labels with scores to a text."""

from typing import Literal

from pydantic import Field

from models.tasks.fields import TextField
from models.tasks.spec import Parameters, TaskSpec


class SentimentParameters(Parameters):
    """Parameters of `pipeline("sentiment-analysis")`."""

    top_k: int | None = Field(
        default=1, ge=1, le=10_000, description="How many labels to give, best first, as a list; null gives all."
    )
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        default=None, description="What turns logits into scores; null: by the model's own problem type."
    )


SENTIMENT_ANALYSIS = TaskSpec(
    name="sentiment-analysis",
    aliases=("text-classification",),
    summary="Label texts with a sequence classifier, such as POSITIVE or NEGATIVE.",
    fields=(
        TextField("text", "The text to label."),
        TextField("text_pair", "A second text, for models trained on pairs.", required=False),
    ),
    parameters=SentimentParameters,
    output_description='{"label": text, "score": number}; with top_k a list of them, best first',
    example_input={"text": "I love this product! It's amazing."},
    example_output={"label": "POSITIVE", "score": 0.9998},
    supports_stride=True,
    aggregates_windows=True,
    label_fields=frozenset({"label"}),
)
