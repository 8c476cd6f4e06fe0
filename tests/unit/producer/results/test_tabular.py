import json
from typing import Any

import pytest

from models.errors import UsageError
from producer.results.files import make_csv_formatter
from producer.results.tabular import ColumnType, TabularLayout
from tests.factories.guard_rows import verdict
from tests.factories.result_rows import FAILED_FIELDS, FINISHED_AT, result_row


def test_a_flat_output_gets_columns() -> None:
    layout = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0})

    assert layout.column_names[:6] == ["position", "custom_id", "text", "status", "label", "score"]
    assert layout.row_values(result_row())[:6] == [0, None, "good", "succeeded", "POSITIVE", 0.5]
    assert layout.column_names[-6:-3] == ["finished_at", "windows", "guards"]
    assert layout.row_values(result_row(windows=2, guards=[]))[-6:-3] == [FINISHED_AT, 2, "[]"]
    assert len(layout.row_values(result_row())) == len(layout.columns)


def test_columns_have_types() -> None:
    types = dict(
        TabularLayout.from_example(
            ["text"], {"answer": "x", "score": 1.0, "start": 3, "sure": True}, passthrough=["region"]
        ).columns
    )

    assert [types[name] for name in ("answer", "score", "start", "sure")] == [
        ColumnType.TEXT,
        ColumnType.NUMBER,
        ColumnType.INTEGER,
        ColumnType.BOOLEAN,
    ]
    assert [types[name] for name in ("position", "region", "truncated", "finished_at")] == [
        ColumnType.INTEGER,
        ColumnType.TEXT,
        ColumnType.BOOLEAN,
        ColumnType.TIMESTAMP,
    ]


def test_passthrough_columns_follow_the_input() -> None:
    layout = TabularLayout.from_example(["text"], None, passthrough=["region", "tags"])

    values = layout.row_values(result_row(passthrough={"region": "EU", "tags": ["a", 1]}))

    assert layout.column_names[2:6] == ["text", "region", "tags", "status"]
    assert values[2:5] == ["good", "EU", '["a", 1]']
    assert layout.row_values(result_row(passthrough=None))[3:5] == [None, None]


def test_a_failed_row_has_its_error_and_no_output() -> None:
    layout = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0})

    values = dict(zip(layout.column_names, layout.row_values(result_row(**FAILED_FIELDS)), strict=True))

    assert (values["label"], values["score"]) == (None, None)
    assert (values["error_code"], values["error_message"]) == ("text_too_long", "too long")


@pytest.mark.parametrize("output", [[{"label": "a", "score": 1.0}], {"tokens": [1]}, "text", [], {}, [{"text": [1]}]])
def test_any_other_output_is_one_column_of_json(output: Any) -> None:
    layout = TabularLayout.from_example(["text"], output)

    values = dict(zip(layout.column_names, layout.row_values(result_row(output=output)), strict=True))

    assert json.loads(values["output"]) == output
    assert dict(layout.columns)["output"] is ColumnType.JSON


def test_a_list_with_one_generated_text_becomes_a_column() -> None:
    output = [{"summary_text": "short"}]
    layout = TabularLayout.from_example(["text"], output)

    values = dict(zip(layout.column_names, layout.row_values(result_row(output=output)), strict=True))

    assert values["summary_text"] == "short"
    with pytest.raises(UsageError, match=r"write \.jsonl"):
        layout.row_values(result_row(output=output * 2))


def test_a_batch_without_outputs_has_an_output_column() -> None:
    assert TabularLayout.from_example(["text"], None).row_values(result_row(**FAILED_FIELDS))[4] is None


def test_an_input_other_than_text_is_json() -> None:
    layout = TabularLayout.from_example(["text", "candidate_labels"], None)

    values = layout.row_values(result_row(input={"text": "good", "candidate_labels": ["ä", "b"]}))

    assert values[2:4] == ["good", '["ä", "b"]']


def test_column_names_are_unique() -> None:
    layout = TabularLayout.from_example(
        ["text"], {"text": "x", "model": "y", "new": "z"}, passthrough=["status", "Text", "new"]
    )

    assert len({name.lower() for name in layout.column_names}) == len(layout.column_names)
    assert layout.column_names[3:6] == ["meta_status", "meta_Text", "new"]
    assert layout.column_names[7:10] == ["output_text", "output_model", "output_new"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output": {"other": 1}}, r"position 7 has other fields than the first; write \.jsonl"),
        ({"output": {"label": 3}}, r"label at position 7 is integer, in the first row it is text; write \.jsonl"),
        ({"passthrough": {"region": "EU"}}, r"position 7 has other passthrough columns; write \.jsonl"),
    ],
)
def test_a_row_that_does_not_fit_raises(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TabularLayout.from_example(["text"], {"label": "x"}).row_values(result_row(7, **fields))


def test_an_integer_in_a_number_column_becomes_a_float() -> None:
    [value] = TabularLayout.from_example([], {"score": 0.5}).row_values(result_row(output={"score": 1}))[3:4]

    assert (value, type(value)) == (1.0, float)


def test_csv_cells_are_safe_in_a_spreadsheet() -> None:
    layout = TabularLayout.from_example(["text"], {"label": "x"}, passthrough=["region"])

    line = make_csv_formatter(layout)(
        result_row(
            input={"text": "=cmd()"},
            output={"label": "@a"},
            passthrough={"region": "+1 "},
            guards=[verdict("=cmd()", "flag", label="=cmd()")],
        )
    )

    assert line[2:6] == ["'=cmd()", "'+1 ", "succeeded", "'@a"]
    assert line[-6] == "2026-01-02T12:00:00.250Z"
    assert line[-4].startswith('[{"guard":')
