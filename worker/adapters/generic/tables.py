"""Tables of which TAPAS reads only a part, because the rest does not fit into the model.

It shortens the cells first, and then leaves out the last rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def is_cut(tokenizer: Any, table: Any, job_input: Mapping[str, Any], limit: int | None) -> bool:
    """Whether a table and its question, or one of its questions, have more tokens than the model takes.

    table: as the pipeline made it of the input.
    """
    if limit is None or _max_tokens(job_input) <= limit:
        return False
    query = job_input["query"]
    queries: Sequence[str] = [query] if isinstance(query, str) else query
    try:
        rows = tokenizer(table, list(queries), truncation="do_not_truncate", padding=False)["input_ids"]
    except ValueError:  # too many rows or columns for the tokenizer
        return True
    return any(len(row) > limit for row in rows)


def _max_tokens(job_input: Mapping[str, Any]) -> int:
    """An upper bound of the tokens: one for each character, for each empty cell, and the special ones."""
    queries = job_input["query"]
    longest = len(queries) if isinstance(queries, str) else max(map(len, queries))
    table: Mapping[str, Sequence[str]] = job_input["table"]
    return longest + 2 + sum(max(1, len(text)) for name, cells in table.items() for text in (name, *cells))
