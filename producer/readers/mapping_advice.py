"""Advice in messages about columns, in the words of the door that the rows came through."""

from collections.abc import Mapping
from typing import NamedTuple


class MappingAdvice(NamedTuple):
    """Says how to name the columns that a message misses.

    field, id, passthrough: how to name another column
    selection: names of the options that choose among the results of a batch, and of the batch itself
    hints: how to repair a row, by error code
    header: what to do if the first line of a table is data
    """

    field: str
    id: str
    passthrough: str
    hints: Mapping[str, str]
    selection: tuple[str, str] = ("", "")
    header: str = "add a line of names above it"


WRITE_NULL = ", or write null there"  # nobody can into the results of a batch

COMMAND_ADVICE = MappingAdvice(
    "say which to use: --input {field}=COLUMN",
    "say which to use: --id COLUMN",
    "say which to use: --passthrough COLUMN",
    {
        "missing_field": "; say which to use: --input FIELD=COLUMN",
        "missing_id": "; leave --id out, or fill it in",
        "invalid_id": "; use another with --id, or none with --no-id",
        "missing_passthrough": "; leave that --passthrough out" + WRITE_NULL,
    },
    ("--status, --label and --min-score", "--from BATCH_ID"),
    "name the columns: --column-names NAME,NAME",
)
PYTHON_ADVICE = MappingAdvice(
    "say which to use: input_columns={{'{field}': COLUMN}}",
    "say which to use: id_column=COLUMN",
    "say which to use: passthrough=[COLUMN]",
    {
        "missing_field": "; say which to use: input_columns={'FIELD': COLUMN}",
        "missing_id": "; leave id_column out, or fill it in",
        "invalid_id": "; use another id_column",
        "missing_passthrough": "; leave it out of passthrough" + WRITE_NULL,
    },
    ("status, labels and min_score", "from_batch=BATCH_ID"),
    "name the columns: column_names=[NAME, NAME]",
)
HTTP_ADVICE = MappingAdvice(
    'say which to use: "input_columns": {{"{field}": "COLUMN"}}',
    'say which to use: "id_column": "COLUMN"',
    'say which to use: "passthrough": ["COLUMN"]',
    {
        "missing_field": '; say which to use: "input_columns": {"FIELD": "COLUMN"}',
        "missing_id": "; leave id_column out, or fill it in",
        "invalid_id": "; use another id_column",
        "missing_passthrough": "; leave it out of passthrough" + WRITE_NULL,
    },
    ("status, labels and min_score", '"from_batch": "BATCH_ID"'),
    'name the columns: "column_names": ["NAME", "NAME"]',
)
PAGE_ADVICE = MappingAdvice(
    "choose the column for {field} in the form",
    "choose another column for the ids in the form",
    "choose other columns to keep in the form",
    {
        "missing_field": "; choose another column in the form",
        "missing_id": "; choose no column for the ids in the form, or fill it in",
        "invalid_id": "; choose another column for the ids in the form",
        "missing_passthrough": "; do not keep that column" + WRITE_NULL,
    },
    header="name the columns in the form",
)
