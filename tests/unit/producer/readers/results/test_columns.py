import json
from typing import Any
from unittest.mock import Mock

import pytest

from models import tasks
from models.errors import JobError, UnreadableSource, UsageError
from producer.readers import rows_from_records
from producer.readers.results import dotted_names
from producer.readers.results.columns import ResultColumns
from producer.readers.results.dotted_names import MISSING
from producer.readers.results.result_record import TOO_DEEP, ResultRecord
from producer.readers.rows import Origin, Problem, Row

SENTIMENT = tasks.find_spec("sentiment-analysis")


def record(position: int = 7, has_vector: bool = False, **columns: Any) -> ResultRecord:
    values: dict[str, Any] = {
        "batch_id": "batch_1",
        "position": position,
        "custom_id": "r7",
        "status": "succeeded",
        "input": {"text": "long"},
        "output": [{"summary_text": "short"}],
        "passthrough": {"lang": "de", "output.label": "kept", "id": 5},
        "error_code": None,
        "error_message": None,
        "truncated": False,
        "has_vector": has_vector,
        "invalid": False,
    }
    values |= columns
    for name in dotted_names.DOCUMENTS:
        values[name] = None if values[name] is None else json.dumps(values[name])
    return ResultRecord(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output.summary_text", "short"),
        ("output.0.summary_text", "short"),
        ("output.1.summary_text", MISSING),
        ("output.text", MISSING),
        ("output", [{"summary_text": "short"}]),
        ("input.text", "long"),
        ("input.text.0", MISSING),
        ("passthrough.lang", "de"),
        ("lang", "de"),
        ("passthrough.output.label", "kept"),
        ("output.label", MISSING),
        ("status", "succeeded"),
        ("position", 7),
        ("error_code", None),
        ("output." + "9" * 5000, MISSING),
        ("", MISSING),
    ],
)
def test_a_name_stands_for_a_value(name: str, value: Any) -> None:
    assert dotted_names.find_value(record(), name) == value


def test_a_list_of_several_needs_a_number() -> None:
    several = record(output=[{"generated_text": "a"}, {"generated_text": "b"}])

    assert dotted_names.find_value(several, "output.generated_text") is MISSING
    assert dotted_names.find_value(several, "output.1.generated_text") == "b"


def test_a_failed_result_has_no_output() -> None:
    failed = record(status="failed", output=None)

    assert dotted_names.find_value(failed, "output") is MISSING
    assert dotted_names.find_value(failed, "output.label") is MISSING
    assert dotted_names.list_names(failed)[0] == "input.text"


def test_a_document_that_is_too_deep_is_no_value() -> None:
    deep = record()
    deep._values["output"] = "[" * 100_000

    assert dotted_names.find_value(deep, "output.0.label") is MISSING
    assert dotted_names.find_value(deep, "output") is TOO_DEEP


def test_a_vector_has_no_name_to_offer() -> None:
    assert dotted_names.list_names(record(output=None, has_vector=True))[0] == "input.text"


def test_names_are_listed_with_the_outputs_first() -> None:
    names = dotted_names.list_names(record())

    assert names[:4] == ["output.summary_text", "input.text", "passthrough.lang", "passthrough.output.label"]
    assert len(dotted_names.list_names(record(output={str(n): n for n in range(500)}))) == dotted_names.MAX_NAMES


def test_keys_of_data_are_not_listed() -> None:
    names = dotted_names.list_names(
        record(
            output=[{"topic": {"label": "A", "more": {"ada@example.org": 1}}}, {"label": "B"}],
            input={"text": {"ada@example.org": 1}},
            passthrough={"meta": {"ada@example.org": 1}, "tags": [{"ada@example.org": 1}]},
        )
    )

    assert names[:4] == ["output.0.topic.label", "output.0.topic.more", "output.1.label", "input.text"]
    assert names[4:6] == ["passthrough.meta", "passthrough.tags"]


class TestResultColumns:
    def test_a_result_becomes_a_row_with_its_id_and_origin(self) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.summary_text"}, passthrough=["lang"])

        row = columns.map_row(7, record())

        assert row == Row(7, "r7", {"text": "short"}, {"lang": "de"}, Origin("batch_1", 7))

    def test_all_kept_columns_stay_under_their_names(self) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.summary_text"}, passthrough=["*"])

        assert columns.map_row(7, record()).passthrough == {"lang": "de", "output.label": "kept", "id": 5}
        assert columns.map_row(7, record(passthrough=None)).passthrough is None

    def test_names_may_be_kept_beside_all_kept_columns(self) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.text"}, passthrough=["input.text", "*"])
        found, lacking = record(output={"text": "short"}), record(passthrough=None)
        with pytest.raises(JobError) as caught:
            columns.map_row(7, lacking)

        assert columns.map_row(7, found).passthrough == {
            "lang": "de",
            "output.label": "kept",
            "id": 5,
            "input.text": "long",
        }
        assert columns.explain_rejection(7, lacking, caught.value).passthrough == {"input.text": "long"}

    def test_an_invalid_result_without_any_name_keeps_its_columns(self) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.text"}, use_ids=False, passthrough=["*"])
        with pytest.raises(JobError) as caught:
            columns.map_row(7, record())

        problem = columns.explain_rejection(7, record(), caught.value)

        assert problem.passthrough == {"lang": "de", "output.label": "kept", "id": 5}

    @pytest.mark.parametrize(
        ("options", "expected"), [({}, None), ({"id_column": "id"}, "5"), ({"use_ids": False}, None)]
    )
    def test_a_kept_column_is_no_id_unless_it_is_named(self, options: dict[str, Any], expected: str | None) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "input.text"}, **options)

        assert columns.map_row(7, record(custom_id=None)).custom_id == expected

    def test_a_result_without_the_name_is_a_problem_that_lists_the_names(self) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.text"}, passthrough=["lang", "region"])
        with pytest.raises(JobError) as caught:
            columns.map_row(7, record())

        problem = columns.explain_rejection(7, record(), caught.value, columns.advice.hints)

        assert problem.code == "missing_field"
        assert problem.message.startswith("has no 'output.text'; it has: output.summary_text, input.text, passthrough")
        assert "also missing_passthrough: has no 'region' to keep; it has: output.summary_text" in problem.message
        assert "leave that --passthrough out" in problem.message
        assert "write null" not in problem.message
        assert problem.origin == Origin("batch_1", 7)
        assert problem.custom_id == "r7"
        assert problem.passthrough == {"lang": "de", "region": None}

    @pytest.mark.parametrize(
        "options",
        [
            {"input_columns": {"text": 5}},
            {"input_columns": {"text": ["a"]}},
            {"id_column": 3},
            {"passthrough": [3]},
            {"passthrough": [["a"]]},
        ],
    )
    def test_a_name_is_text(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="text"):
            ResultColumns.for_task(SENTIMENT, **options)

    @pytest.mark.parametrize(("use_ids", "custom_id"), [(True, "r7"), (False, None)])
    def test_a_result_that_can_t_be_read_keeps_what_names_it(
        self, monkeypatch: pytest.MonkeyPatch, use_ids: bool, custom_id: str | None
    ) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.text"}, use_ids=use_ids)
        monkeypatch.setattr(dotted_names, "find_value", Mock(side_effect=ValueError))

        [problem] = rows_from_records([(7, record())], columns)

        assert problem == Problem(7, "can't be read (ValueError)", custom_id=custom_id, origin=Origin("batch_1", 7))

    def test_a_name_that_no_result_has_is_refused(self) -> None:
        columns = ResultColumns.for_task(SENTIMENT, {"text": "output.summary"}, passthrough=["lang"])

        with pytest.raises(
            UnreadableSource, match=r"'output.summary'; it has: output.summary_text.*--input text=COLUMN"
        ):
            columns.check_names("the selection", [record(), record(8)])
        columns.check_names("the selection", [record(), record(8, output={"summary": "short"})])
        columns.check_names("the selection", [])
