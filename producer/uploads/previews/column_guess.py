"""Which column of a file is which field of a task, as far as names and contents show it. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from models.tasks.spec import TaskSpec
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS
from producer.uploads.previews.preview import ColumnSummary

# Names that people give to the columns of a field, the likeliest first.
USUAL_NAMES: Mapping[str, Sequence[str]] = {
    "text": ("content", "body", "review", "message", "comment", "sentence", "description", "input", "prompt", "title"),
    "question": ("query", "prompt"),
    "context": ("document", "passage", "text", "content", "body"),
    "query": ("question", "search"),
    "texts": ("documents", "passages", "candidates"),
    "messages": ("conversation", "chat"),
}
MIN_TEXT_CHARACTERS = 3.0  # the mean length of a column that may be the input


def guess_columns(spec: TaskSpec, columns: Iterable[ColumnSummary]) -> dict[str, str]:
    """Return the column of each field that has a likely one.

    Optional fields get a column of their name only, because a wrong one would change the answers.
    """
    by_name = {column.name.lower(): column for column in columns}
    guessed: dict[str, str] = {}
    # A task that takes one of several fields requires none of them; its first is the usual one.
    needed = [item.name for item in spec.fields if item.required] or [spec.fields[0].name]
    if not any(item.required for item in spec.fields) and any(item.name in by_name for item in spec.fields):
        needed = []
    for item in spec.fields:
        column = by_name.get(item.name.lower())
        if column is None and item.name in needed:
            names = USUAL_NAMES.get(item.name, ())
            column = next((by_name[name] for name in names if name in by_name), None)
        if column is not None and column.name not in guessed.values():
            guessed[item.name] = column.name
    if len(needed) == 1 and needed[0] not in guessed:
        longest = _longest_text(by_name.values(), guessed.values())
        if longest is not None:
            guessed[needed[0]] = longest
    return guessed


def _longest_text(columns: Iterable[ColumnSummary], taken: Iterable[str]) -> str | None:
    """Return the column of the longest texts, which is most likely the one to read."""
    texts = [
        column
        for column in columns
        if column.kind in ("text", "mixed")
        and column.mean_characters >= MIN_TEXT_CHARACTERS
        and column.name.lower() not in DEFAULT_ID_COLUMNS
        and column.name not in taken
    ]
    return max(texts, key=lambda column: column.mean_characters).name if texts else None
