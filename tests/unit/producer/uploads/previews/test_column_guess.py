"""The columns that are proposed for the fields of a task."""

import pytest

from models import tasks
from producer.uploads.previews.column_guess import guess_columns
from producer.uploads.previews.preview import ColumnSummary, make_cell


def column(name: str, *values: object) -> ColumnSummary:
    summary = ColumnSummary(name)
    for value in values:
        summary.add(make_cell(value, has_only_texts=True))
    return summary


BOTH_TEXTS = {"text": "text", "text_pair": "text_pair"}
QUESTION = {"question": "query", "context": "text"}


@pytest.mark.parametrize(
    ("task", "columns", "guess"),
    [
        ("sentiment-analysis", [column("id", "a"), column("Text", "fine")], {"text": "Text"}),
        ("sentiment-analysis", [column("title", "a long title"), column("body", "fine")], {"text": "body"}),
        ("sentiment-analysis", [column("sku", "SKU-1"), column("remarks", "a fine day")], {"text": "remarks"}),
        ("sentiment-analysis", [column("text", "a"), column("text_pair", "b")], BOTH_TEXTS),
        ("sentiment-analysis", [column("id", "a long id of a row")], {}),
        ("sentiment-analysis", [column("stars", "12345")], {}),
        ("sentiment-analysis", [], {}),
        ("text-generation", [column("sku", "SKU-1"), column("remarks", "a fine day")], {"text": "remarks"}),
        ("text-generation", [column("Body", "a fine day"), column("messages", "[]")], {"messages": "messages"}),
        ("question-answering", [column("query", "who?"), column("text", "a story")], QUESTION),
        ("question-answering", [column("a", "who are you?")], {}),
        ("zero-shot-classification", [column("labels", "a, b"), column("message", "fine")], {"text": "message"}),
    ],
)  # fmt: skip
def test_names_and_contents_show_the_columns(task: str, columns: list[ColumnSummary], guess: dict[str, str]) -> None:
    assert guess_columns(tasks.find_spec(task), columns) == guess
