"""The table-question-answering task finds the cells of a table that answer a question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS, TextField, describe_type, is_storable, parse_json_list
from models.tasks.generic.json_values import parse_json
from models.tasks.spec import Parameters, TaskSpec

# A tokenizer in plain Python reads every cell before it leaves rows out.
MAX_CELLS = 20_000
MAX_QUERIES = 100


@dataclass(frozen=True, slots=True)
class TableField:
    """A table: an object of columns, each a list of cells, or a list of rows, each an object; cells become text."""

    name: str
    help: str
    required: bool = True
    bare_type: type | None = None

    def check(self, value: object) -> dict[str, list[str]]:
        """Return the columns of text to store; raises JobError if no model could read the table."""
        value = parse_json(value)
        if isinstance(value, Mapping):
            columns = self._read_columns(value)
        elif isinstance(value, list | tuple) and all(isinstance(row, Mapping) for row in value):
            columns = _read_rows(value)
        else:
            raise self._error(
                f"must be an object of columns, or a list of rows that are objects, not {describe_type(value)}"
            )
        if not columns or not next(iter(columns.values())):
            raise self._error("has no cells; leave the row out, or give the table columns and rows")
        cells = sum(map(len, columns.values()))
        if cells > MAX_CELLS:
            raise JobError("table_too_large", f"{self.name} has {cells:,} cells; at most {MAX_CELLS:,} are taken")
        table = {self._text(name): [self._text(cell) for cell in cells] for name, cells in columns.items()}
        size = sum(len(text) for name, texts in table.items() for text in (name, *texts))
        if size > MAX_TEXT_CHARACTERS:
            problem = f"{self.name} has {size:,} characters in all"
            raise JobError("text_too_long", f"{problem}; at most {MAX_TEXT_CHARACTERS:,} are taken")
        return table

    def _read_columns(self, value: Mapping[Any, Any]) -> dict[Any, Sequence[Any]]:
        for cells in value.values():
            if not isinstance(cells, list | tuple):
                raise self._error(f"must have a list of cells in each column, not {describe_type(cells)}")
        if len({len(cells) for cells in value.values()}) > 1:
            raise self._error("has columns of different lengths; fill up the shorter ones")
        return dict(value)

    def _text(self, cell: object) -> str:
        if cell is None:
            return ""
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if not isinstance(cell, str | int | float):
            raise self._error(f"must have texts and numbers in its cells, not {describe_type(cell)}")
        text = cell if isinstance(cell, str) else str(cell)
        if not is_storable(text):
            raise JobError(
                "invalid_text", f"{self.name} has a NUL character or half a surrogate pair; mend its encoding"
            )
        return text

    def _error(self, problem: str) -> JobError:
        return JobError("invalid_table", f"{self.name} {problem}")


def _read_rows(rows: Sequence[Mapping[Any, Any]]) -> dict[Any, Sequence[Any]]:
    """The columns of rows that are objects, in the order in which names first appear; a missing cell is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) * len(rows) > MAX_CELLS:
        size = f"{len(names):,} columns and {len(rows):,} rows"
        raise JobError("table_too_large", f"the table has {size}; at most {MAX_CELLS:,} cells are taken")
    return {name: [row.get(name) for row in rows] for name in names}


@dataclass(frozen=True, slots=True)
class QueryField:
    """A question about a table, or a list of them."""

    name: str
    help: str
    required: bool = True
    bare_type: type | None = None

    def check(self, value: object) -> str | list[str]:
        """Return the question or questions to store; raises JobError if no model could answer them."""
        value = parse_json_list(value)
        if not isinstance(value, list | tuple):
            return TextField(self.name, "").check(value)
        if not 1 <= len(value) <= MAX_QUERIES:
            raise JobError("invalid_field", f"{self.name} has {len(value):,} questions; give from 1 to {MAX_QUERIES}")
        return [TextField(f"{self.name}[{place}]", "").check(query) for place, query in enumerate(value)]


class TableQuestionAnsweringParameters(Parameters):
    """Parameters of `pipeline("table-question-answering")`."""

    sequential: bool = Field(
        default=False,
        description="Of several questions: whether each is read with the answer to the one before, for models that "
        "were trained on conversations.",
    )


TABLE_QUESTION_ANSWERING = TaskSpec(
    name="table-question-answering",
    aliases=(),
    summary="Find the cells of a table that answer a question, by the pipeline of transformers itself.",
    fields=(
        TableField(
            "table", "An object of columns, each a list of cells, or a list of rows, each an object; or JSON text."
        ),
        QueryField("query", "The question, or a list of questions."),
    ),
    parameters=TableQuestionAnsweringParameters,
    output_description=(
        '{"answer": text, "coordinates": [[row, column]], "cells": [text], "aggregator": text if the model has them}; '
        "of several questions a list"
    ),
    example_input={
        "table": {"city": ["Paris", "Rome", "Oslo"], "inhabitants": ["2100000", "2800000", "700000"]},
        "query": "How many people live in Rome?",
    },
    example_output={
        "answer": "AVERAGE > 2800000",
        "coordinates": [[1, 1]],
        "cells": ["2800000"],
        "aggregator": "AVERAGE",
    },
)
