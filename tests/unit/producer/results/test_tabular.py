import json
from typing import Any

import pytest

from models.errors import UsageError
from producer.results.files import csv_cells
from producer.results.tabular import ColumnType, TabularLayout
from tests.results_made import FAILED_FIELDS, FINISHED_AT, result_row


def test_a_flat_output_gets_columns() -> None:
    sheet = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0})

    assert sheet.column_names[:6] == ["position", "custom_id", "text", "status", "label", "score"]
    assert sheet.row_values(result_row())[:6] == [0, None, "good", "succeeded", "POSITIVE", 0.5]
    assert sheet.row_values(result_row())[-1] == FINISHED_AT
    assert len(sheet.row_values(result_row())) == len(sheet.columns)


def test_columns_have_kinds() -> None:
    kinds = dict(
        TabularLayout.from_example(
            ["text"], {"answer": "x", "score": 1.0, "start": 3, "sure": True}, passthrough=["region"]
        ).columns
    )

    assert [kinds[name] for name in ("answer", "score", "start", "sure")] == [
        ColumnType.TEXT,
        ColumnType.NUMBER,
        ColumnType.INTEGER,
        ColumnType.BOOLEAN,
    ]
    assert [kinds[name] for name in ("position", "region", "truncated", "finished_at")] == [
        ColumnType.INTEGER,
        ColumnType.TEXT,
        ColumnType.BOOLEAN,
        ColumnType.TIMESTAMP,
    ]


def test_what_was_kept_of_the_row_stands_behind_its_input() -> None:
    sheet = TabularLayout.from_example(["text"], None, passthrough=["region", "tags"])

    kept = sheet.row_values(result_row(passthrough={"region": "EU", "tags": ["a", 1]}))

    assert sheet.column_names[2:6] == ["text", "region", "tags", "status"]
    assert kept[2:5] == ["good", "EU", '["a", 1]']
    assert sheet.row_values(result_row(passthrough=None))[3:5] == [None, None]


def test_a_failed_row_has_its_error_and_no_output() -> None:
    sheet = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0})

    values = dict(zip(sheet.column_names, sheet.row_values(result_row(**FAILED_FIELDS)), strict=True))

    assert (values["label"], values["score"]) == (None, None)
    assert (values["error_code"], values["error_message"]) == ("text_too_long", "too long")


@pytest.mark.parametrize("output", [[{"label": "a", "score": 1.0}], {"tokens": [1]}, "text", [], {}, [{"text": [1]}]])
def test_any_other_output_is_one_column_of_json(output: Any) -> None:
    sheet = TabularLayout.from_example(["text"], output)

    values = dict(zip(sheet.column_names, sheet.row_values(result_row(output=output)), strict=True))

    assert json.loads(values["output"]) == output
    assert dict(sheet.columns)["output"] is ColumnType.JSON


def test_the_one_text_that_was_written_is_a_column() -> None:
    output = [{"summary_text": "short"}]
    sheet = TabularLayout.from_example(["text"], output)

    values = dict(zip(sheet.column_names, sheet.row_values(result_row(output=output)), strict=True))

    assert values["summary_text"] == "short"
    with pytest.raises(UsageError, match=r"write \.jsonl"):
        sheet.row_values(result_row(output=output * 2))


def test_without_any_output_there_is_that_column_too() -> None:
    assert TabularLayout.from_example(["text"], None).row_values(result_row(**FAILED_FIELDS))[4] is None


def test_an_input_that_is_no_text_is_json() -> None:
    sheet = TabularLayout.from_example(["text", "candidate_labels"], None)

    values = sheet.row_values(result_row(input={"text": "good", "candidate_labels": ["ä", "b"]}))

    assert values[2:4] == ["good", '["ä", "b"]']


def test_names_do_not_clash() -> None:
    sheet = TabularLayout.from_example(
        ["text"], {"text": "x", "model": "y", "new": "z"}, passthrough=["status", "Text", "new"]
    )

    assert len({name.lower() for name in sheet.column_names}) == len(sheet.column_names)
    assert sheet.column_names[3:6] == ["meta_status", "meta_Text", "new"]
    assert sheet.column_names[7:10] == ["output_text", "output_model", "output_new"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"output": {"other": 1}}, r"position 7 has other fields than the first; write \.jsonl"),
        ({"output": {"label": 3}}, r"label at position 7 is integer, in the first row it is text; write \.jsonl"),
        ({"passthrough": {"region": "EU"}}, r"position 7 has other columns of its own; write \.jsonl"),
    ],
)
def test_what_does_not_fit_is_not_cut(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TabularLayout.from_example(["text"], {"label": "x"}).row_values(result_row(7, **fields))


def test_a_whole_number_is_a_number_too() -> None:
    [value] = TabularLayout.from_example([], {"score": 0.5}).row_values(result_row(output={"score": 1}))[3:4]

    assert (value, type(value)) == (1.0, float)


def test_cells_are_safe_in_a_spreadsheet() -> None:
    sheet = TabularLayout.from_example(["text"], {"label": "x"}, passthrough=["region"])

    line = csv_cells(sheet, result_row(input={"text": "=cmd()"}, output={"label": "@a"}, passthrough={"region": "+1 "}))

    assert line[2:6] == ["'=cmd()", "'+1 ", "succeeded", "'@a"]
    assert line[-1] == "2026-01-02T12:00:00.250Z"
