"""The text-ranking (reranking) task scores texts by how well they answer a query, with a cross-encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS, TextField, describe_type, parse_json_list
from models.tasks.spec import Parameters, TaskSpec

# Each text costs a forward pass over itself and the query.
MAX_TEXTS = 1_000


@dataclass(frozen=True, slots=True)
class TextsField:
    """A list of texts, at most `MAX_TEXTS`, which together are bounded like a single one."""

    name: str
    help: str
    required: bool = False
    bare_type: type | None = None

    def check(self, value: object) -> list[str]:
        """Return the texts to store; raises JobError if no model could answer them."""
        value = parse_json_list(value)
        if not isinstance(value, list | tuple):
            problem = f"{self.name} must be a list of texts, not {describe_type(value)}"
            raise JobError("not_text", f"{problem}; write a JSON list, or give a single text as text")
        if not value:
            raise JobError("no_texts", f"{self.name} is empty; give at least one text, or leave the row out")
        if len(value) > MAX_TEXTS:
            raise JobError(
                "too_many_texts", f"{self.name} has {len(value):,} texts; at most {MAX_TEXTS:,} are taken: split them"
            )
        texts = [self._check_text(f"{self.name}[{place}]", text) for place, text in enumerate(value)]
        size = sum(map(len, texts))
        if size > MAX_TEXT_CHARACTERS:
            problem = f"{self.name} has {size:,} characters in all"
            raise JobError("text_too_long", f"{problem}; at most {MAX_TEXT_CHARACTERS:,} are taken: split them")
        return texts

    def _check_text(self, path: str, value: object) -> str:
        if isinstance(value, str) and not value.strip():
            raise JobError("empty_text", f"{path} is empty; take it out of the list")
        return TextField(path, "").check(value)


class RankingParameters(Parameters):
    """Parameters of `sentence_transformers.CrossEncoder`, named as in pipelines of transformers."""

    function_to_apply: Literal["sigmoid", "none"] | None = Field(
        default=None, description="What turns the model's numbers into scores; null: by the model's own files."
    )
    top_k: int | None = Field(
        default=None, ge=1, le=MAX_TEXTS, description="Of texts: how many to give, best first; null gives all."
    )
    return_texts: bool = Field(default=False, description="Of texts: whether each score comes with its text.")


def _check_one_form(stored: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    if "text" in stored and "texts" in stored:
        raise JobError("text_and_texts", "an input has text or texts, not both; leave one out")
    if "text" not in stored and "texts" not in stored:
        raise JobError("missing_field", "text is missing; an input needs query, and text or texts")


TEXT_RANKING = TaskSpec(
    name="text-ranking",
    aliases=("reranking",),
    summary="Score how well texts answer a query, and rank them, with a cross-encoder.",
    fields=(
        TextField("query", "What the texts are ranked for.", bare_type=None),
        TextField("text", "The text to score.", required=False, bare_type=None),
        TextsField("texts", f"In place of text: the texts to rank, from 1 to {MAX_TEXTS:,}."),
    ),
    parameters=RankingParameters,
    output_description=(
        '{"score": number}; of texts a list of {"index": number, "score": number}, best first, with return_texts '
        'also "text"'
    ),
    example_input={
        "query": "How do I reset my password?",
        "texts": ["Our office is closed on Sundays.", "Choose 'Forgot password' on the sign-in page."],
    },
    example_output=[{"index": 1, "score": 0.9731}, {"index": 0, "score": 0.0004}],
    check_input=_check_one_form,
    supports_stride=True,
    aggregates_windows=True,
    default_window_aggregation="max",
)
