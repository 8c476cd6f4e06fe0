"""`/v1/moderations`: a classifier's labels are the categories.

A text is flagged if a label has a score of at least 0.5 and is none of `HARMLESS_LABELS`.
"""

from collections.abc import Mapping
from typing import Any

from models.documents import from_json, to_json
from models.tasks.sentiment_analysis import SENTIMENT_ANALYSIS
from producer.endpoints.answer import Answer, quote
from producer.endpoints.endpoint import Endpoint, Settings, invalid, read_single_text, reject_rest

FLAGGED_SCORE = 0.5
# In lower case, with `_` for blanks and hyphens.
HARMLESS_LABELS = frozenset(
    {"acceptable", "appropriate", "benign", "clean", "good", "ham", "harmless", "joy", "label_0", "legit", "love"}
    | {"neither", "neutral", "no", "no_hate", "non_hate", "non_toxic", "none", "normal", "not_hate", "not_spam"}
    | {"not_toxic", "nothate", "ok", "other", "positive", "safe", "sfw", "very_positive"}
)


def _read_input(body: Mapping[str, Any]) -> str:
    value = body.get("input")
    parts = value if isinstance(value, list) else ()
    if len(parts) == 1 and isinstance(parts[0], dict):
        if parts[0].get("type") != "text":
            raise invalid("input", "has a part in body.input that is no text; classifiers read text alone")
        value = parts[0].get("text")
    return read_single_text("input", value)


def _read_settings(settings: Mapping[str, Any]) -> Settings:
    reject_rest(settings)
    return Settings({"top_k": None}, {})  # a score for every label


def _write_body(answer: Answer) -> str:
    output = from_json(answer.output_text)
    scores = {str(item["label"]): item["score"] for item in (output if isinstance(output, list) else [output])}
    categories = {label: is_flagged(label, score) for label, score in scores.items()}
    return (
        f'{{"id": {quote(answer.id)}, "model": {quote(answer.pipeline)}, "results": [{{'
        f'"flagged": {"true" if any(categories.values()) else "false"}, '
        f'"categories": {to_json(categories)}, "category_scores": {to_json(scores)}}}]}}'
    )


def is_flagged(label: str, score: float) -> bool:
    """Whether a label flags a text."""
    return score >= FLAGGED_SCORE and label.lower().replace(" ", "_").replace("-", "_") not in HARMLESS_LABELS


ENDPOINT = Endpoint(
    path="/v1/moderations",
    tasks=(SENTIMENT_ANALYSIS.name,),
    input_keys=frozenset({"input"}),
    read_input=_read_input,
    read_settings=_read_settings,
    write_body=_write_body,
)
