import json
from typing import Any

import pytest

from models.errors import UsageError
from producer.results.files import cells
from producer.results.tabular import Kind, Sheet
from tests.results_made import FAILED, NOON, row


def test_a_flat_output_gets_columns() -> None:
    sheet = Sheet.of(["text"], {"label": "x", "score": 1.0})

    assert sheet.header[:6] == ["position", "custom_id", "text", "status", "label", "score"]
    assert sheet.values(row())[:6] == [0, None, "good", "succeeded", "POSITIVE", 0.5]
    assert sheet.values(row())[-1] == NOON
    assert len(sheet.values(row())) == len(sheet.columns)


def test_columns_have_kinds() -> None:
    kinds = dict(Sheet.of(["text"], {"answer": "x", "score": 1.0, "start": 3, "sure": True}, meta=["region"]).columns)

    assert [kinds[name] for name in ("answer", "score", "start", "sure")] == [
        Kind.TEXT, Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN,
    ]  # fmt: skip
    assert [kinds[name] for name in ("position", "region", "truncated", "finished_at")] == [
        Kind.INTEGER, Kind.TEXT, Kind.BOOLEAN, Kind.MOMENT,
    ]  # fmt: skip


def test_what_was_kept_of_the_row_stands_behind_its_input() -> None:
    sheet = Sheet.of(["text"], None, meta=["region", "tags"])

    kept = sheet.values(row(meta={"region": "EU", "tags": ["a", 1]}))

    assert sheet.header[2:6] == ["text", "region", "tags", "status"]
    assert kept[2:5] == ["good", "EU", '["a", 1]']
    assert sheet.values(row(meta=None))[3:5] == [None, None]


def test_a_failed_row_has_its_error_and_no_output() -> None:
    sheet = Sheet.of(["text"], {"label": "x", "score": 1.0})

    values = dict(zip(sheet.header, sheet.values(row(**FAILED)), strict=True))

    assert (values["label"], values["score"]) == (None, None)
    assert (values["error_code"], values["error_message"]) == ("text_too_long", "too long")


@pytest.mark.parametrize("output", [[{"label": "a", "score": 1.0}], {"tokens": [1]}, "text", [], {}, [{"text": [1]}]])
def test_any_other_output_is_one_column_of_json(output: Any) -> None:
    sheet = Sheet.of(["text"], output)

    values = dict(zip(sheet.header, sheet.values(row(output=output)), strict=True))

    assert json.loads(values["output"]) == output
    assert dict(sheet.columns)["output"] is Kind.DOCUMENT


def test_the_one_text_that_was_written_is_a_column() -> None:
    output = [{"summary_text": "short"}]
    sheet = Sheet.of(["text"], output)

    values = dict(zip(sheet.header, sheet.values(row(output=output)), strict=True))

    assert values["summary_text"] == "short"
    with pytest.raises(UsageError, match=r"write \.jsonl"):
        sheet.values(row(output=output * 2))


def test_without_any_output_there_is_that_column_too() -> None:
    assert Sheet.of(["text"], None).values(row(**FAILED))[4] is None


def test_an_input_that_is_no_text_is_json() -> None:
    sheet = Sheet.of(["text", "candidate_labels"], None)

    values = sheet.values(row(input={"text": "good", "candidate_labels": ["ä", "b"]}))

    assert values[2:4] == ["good", '["ä", "b"]']


def test_names_do_not_clash() -> None:
    sheet = Sheet.of(["text"], {"text": "x", "model": "y", "new": "z"}, meta=["status", "Text", "new"])

    assert len({name.lower() for name in sheet.header}) == len(sheet.header)
    assert sheet.header[3:6] == ["meta_status", "meta_Text", "new"]
    assert sheet.header[7:10] == ["output_text", "output_model", "output_new"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"output": {"other": 1}}, r"position 7 has other fields than the first; write \.jsonl"),
        ({"output": {"label": 3}}, r"label at position 7 is integer, in the first row it is text; write \.jsonl"),
        ({"meta": {"region": "EU"}}, r"position 7 has other columns of its own; write \.jsonl"),
    ],
)
def test_what_does_not_fit_is_not_cut(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Sheet.of(["text"], {"label": "x"}).values(row(7, **fields))


def test_a_whole_number_is_a_number_too() -> None:
    [value] = Sheet.of([], {"score": 0.5}).values(row(output={"score": 1}))[3:4]

    assert (value, type(value)) == (1.0, float)


def test_cells_are_safe_in_a_spreadsheet() -> None:
    sheet = Sheet.of(["text"], {"label": "x"}, meta=["region"])

    line = cells(sheet, row(input={"text": "=cmd()"}, output={"label": "@a"}, meta={"region": "+1 "}))

    assert line[2:6] == ["'=cmd()", "'+1 ", "succeeded", "'@a"]
    assert line[-1] == "2026-01-02T12:00:00.250Z"
