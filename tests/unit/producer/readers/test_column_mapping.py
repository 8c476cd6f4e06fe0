import math
from typing import Any

import pytest

from models import tasks
from models.documents import to_json
from models.errors import JobError, UnreadableSource, UsageError
from producer.readers import kept_columns
from producer.readers.column_mapping import ColumnMapping, parse_custom_id
from producer.readers.rows import Row

SPEC = tasks.find_spec("sentiment-analysis")


class TestColumns:
    def test_the_tasks_own_names_are_the_default(self) -> None:
        row = ColumnMapping.for_task(SPEC).map_row(3, {"id": 7, "text": "good", "stars": 5})

        assert row == Row(3, "7", {"text": "good"})

    def test_custom_id_takes_precedence_over_id(self) -> None:
        assert ColumnMapping.for_task(SPEC).map_row(1, {"id": "b", "custom_id": "a", "text": "x"}).custom_id == "a"
        assert ColumnMapping.for_task(SPEC).map_row(1, {"id": "b", "custom_id": None, "text": "x"}).custom_id == "b"
        assert ColumnMapping.for_task(SPEC).map_row(1, {"id": "", "text": "x"}).custom_id is None

    def test_ids_can_be_left_out(self) -> None:
        assert ColumnMapping.for_task(SPEC, use_ids=False).map_row(1, {"id": [], "text": "x"}).custom_id is None

    def test_other_columns_can_be_named(self) -> None:
        columns = ColumnMapping.for_task(SPEC, {"text": "body", "text_pair": "title"}, "sku")

        row = columns.map_row(1, {"sku": "s1", "body": "good", "title": "short", "text": "not this", "id": 1})

        assert row == Row(1, "s1", {"text": "good", "text_pair": "short"})

    def test_bare_text_is_the_first_field(self) -> None:
        assert ColumnMapping.for_task(SPEC).map_row(1, "good") == Row(1, None, "good")

    @pytest.mark.parametrize(
        ("record", "options", "kept"),
        [
            ({"id": 1, "text": "x", "a": 1, "b": [2]}, {}, {"a": 1, "b": [2]}),
            ({"id": 1, "custom_id": 2, "text": "x"}, {}, {"id": 1}),
            ({"id": 1, "text": "x"}, {"use_ids": False}, {"id": 1}),
            ({"sku": 1, "body": "x", "text": "y", "id": 3}, {"id_column": "sku"}, {"id": 3, "text": "y"}),
            ({"body": "x", "*": 1}, {}, {"*": 1}),
            ({"body": "x"}, {}, None),
            ("x", {}, None),
        ],
        ids=str,
    )
    def test_all_other_columns_can_be_kept(self, record: Any, options: dict[str, Any], kept: Any) -> None:
        input_columns = {"text": "body"} if "body" in record else {}
        columns = ColumnMapping.for_task(SPEC, input_columns, passthrough=["a", "*"], **options)

        assert columns.map_row(1, record).passthrough == kept
        if isinstance(record, dict):
            columns.check_header("a.csv", record)
            assert {*columns.column_names(record)} >= record.keys()

    @pytest.mark.parametrize(
        ("record", "words"),
        [
            ({"text": "x", "a\0": 1}, "rename it"),
            ({"text": "x", "\ud800": 1}, "rename it"),
            ({"text": "x", None: [1]}, "rename it"),
            ({"text": "x", **{f"c{n}": "y" * 200 for n in range(100)}}, "in 100 columns to keep"),
            ({"text": "x", "a": 1, "b": math.nan, "c": [math.inf]}, "a value in b and c that JSON can't hold"),
        ],
        ids=["nul", "surrogate", "none", "wide", "nan"],
    )
    def test_columns_that_cannot_be_kept_fail_the_row(self, record: Any, words: str) -> None:
        with pytest.raises(JobError, match=words) as caught:
            ColumnMapping.for_task(SPEC, passthrough=["*"]).map_row(1, record)

        assert caught.value.code == "invalid_passthrough"
        str(caught.value).encode()
        problem = ColumnMapping.for_task(SPEC, passthrough=["*"]).explain_rejection(1, record, caught.value)
        document = to_json(problem.passthrough)
        assert "\\u0000" not in document
        assert len(document) <= kept_columns.MAX_JSON_CHARACTERS + len(record)

    def test_an_invalid_row_keeps_what_can_be_kept(self) -> None:
        record = {"text": "x", "a": 1, "b": math.nan, "c\0": 2, "d": b"", "e": "y" * 20_000, "f": ["z"]}

        kept = ColumnMapping.for_task(SPEC, passthrough=["*"]).keep_passthrough(record)

        assert kept == {"a": 1, "b": None, "d": None, "e": None, "f": ["z"]}

    def test_an_unknown_field_is_rejected(self) -> None:
        with pytest.raises(UsageError, match=r"no input 'body'; it takes: text, text_pair"):
            ColumnMapping.for_task(SPEC, {"body": "text"})

    def test_a_missing_column_is_named_with_the_existing_ones(self) -> None:
        with pytest.raises(JobError, match=r"has no 'text'; it has: body, stars"):
            ColumnMapping.for_task(SPEC).map_row(1, {"body": "good", "stars": 5})
        # An optional field whose column is named explicitly must exist as well.
        with pytest.raises(JobError, match="has no 'title'"):
            ColumnMapping.for_task(SPEC, {"text_pair": "title"}).map_row(1, {"text": "good"})

    @pytest.mark.parametrize("record", [{"text": "x"}, {"text": "x", "sku": None}, {"text": "x", "sku": ""}, "x"])
    def test_an_explicit_id_column_must_have_a_value(self, record: object) -> None:
        with pytest.raises(JobError, match="sku"):
            ColumnMapping.for_task(SPEC, id_column="sku").map_row(1, record)

    def test_a_header_is_checked(self) -> None:
        ColumnMapping.for_task(SPEC).check_header("a.csv", ["text"])
        with pytest.raises(UnreadableSource, match=r"a.csv has no column 'text'; it has: id, body; .*--input text="):
            ColumnMapping.for_task(SPEC).check_header("a.csv", ["id", "body"])
        with pytest.raises(UnreadableSource, match=r"no column 'sku'; it has: text; .*--id"):
            ColumnMapping.for_task(SPEC, id_column="sku").check_header("a.csv", ["text"])

    def test_the_list_of_columns_is_bounded(self) -> None:
        with pytest.raises(UnreadableSource) as raised:
            ColumnMapping.for_task(SPEC).check_header("a.csv", [f"c{i}" * 1000 for i in range(1000)])

        assert "and 980 more" in str(raised.value)
        assert len(str(raised.value)) < 2_000


class TestCustomId:
    def test_text_and_integers_are_accepted(self) -> None:
        assert parse_custom_id("ä b") == "ä b"
        assert parse_custom_id(12345678901234567890) == "12345678901234567890"

    @pytest.mark.parametrize("value", [True, 1.5, [], {}, "x" * 513, "a\0b", "a\ud800", 10**600])
    def test_other_values_are_rejected(self, value: object) -> None:
        with pytest.raises(JobError) as raised:
            parse_custom_id(value)

        assert raised.value.code == "invalid_id"
