"""The columns of a submission, whose fields only the server knows."""

from collections.abc import Callable, Mapping
from typing import Any

from models.errors import Forbidden, NotFound, UsageError
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS, NO_MAPPING, ColumnMapping
from producer.readers.mapping_advice import PYTHON_ADVICE
from producer.remote.http import ServerHttp
from producer.remote.pages import quote_name
from producer.submission.options import SubmitOptions

TEXT_FIELD, CHAT_FIELD = "text", "messages"  # what a bare text, or the messages of a chat, are for every task of ours

Fields = tuple[tuple[str, bool], ...]  # of a pipeline: the name of each, and whether it is required
FindFields = Callable[[], Fields | None]


def find_fields(http: ServerHttp, pipeline: str) -> Fields | None:
    """Return the fields of a pipeline; None if the server does not tell, and checks the rows alone."""
    try:
        document = http.get(f"/api/pipelines/{quote_name(pipeline)}")
    except (Forbidden, NotFound):  # a key that only submits; a submission's error names an unknown pipeline better
        return None
    inputs = document.get("inputs")
    return None if inputs is None else tuple((field["name"], field["required"]) for field in inputs)


def map_columns(options: SubmitOptions, fields: Fields | None, *, use_ids: bool) -> ColumnMapping:
    """The columns that the options and the fields name; raises UsageError.

    use_ids: whether rows have their ids
    """
    named = options.input_columns or {}
    if not isinstance(named, Mapping):
        raise UsageError(NO_MAPPING)
    columns: tuple[tuple[str, Any, bool], ...]
    if fields is None:
        columns = tuple((field, column, True) for field, column in named.items()) or ((TEXT_FIELD, TEXT_FIELD, False),)
    else:
        columns = tuple((name, named.get(name, name), required or name in named) for name, required in fields)
    id_columns = DEFAULT_ID_COLUMNS if options.id_column in (None, "") else (options.id_column,)
    passthrough = tuple(options.passthrough_columns())
    return ColumnMapping(
        columns,
        id_columns if use_ids else (),
        use_ids and id_columns != DEFAULT_ID_COLUMNS,
        tuple(name for name in passthrough if name != "*"),
        keeps_all="*" in passthrough,
        advice=PYTHON_ADVICE,
    )
