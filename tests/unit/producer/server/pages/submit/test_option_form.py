"""What a form sends becomes the options of the API, and an error finds its field."""

from datetime import UTC, datetime
from typing import Any

import pytest

from models.errors import InvalidParameters, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.native.batches.submission.submission_options import SubmissionOptions
from producer.server.pages.submit import option_form
from producer.server.pages.submit.option_form import FormValues
from producer.server.pages.submit.parameter_fields import parameter_fields
from producer.uploads.files import FileView

PIPELINE = Catalogue.load(Settings())["sample-sentiment-analysis"]
NOTHING: dict[str, Any] = dict.fromkeys(("location", "sha256", "batch_id", "etag", "expires_at"))
FILE = FileView("file-a", "acme", "a.csv", "batch", size_bytes=1, rows=1, created_at=datetime.now(UTC), **NOTHING)


def parse(*pairs: tuple[str, str], bare: bool = False) -> SubmissionOptions:
    values = FormValues.of(pairs)
    return option_form.parse(values, PIPELINE, parameter_fields(PIPELINE), FILE, "csv", has_bare_texts=bare)


def test_a_form_becomes_options() -> None:
    options = parse(
        ("column.text", "body"),
        ("column.text_pair", ""),
        ("id_column", "sku"),
        ("keep", "region"),
        ("keep", "stars"),
        ("parameter.top_k", " 2 "),
        ("parameter.function_to_apply", ""),
        ("name", " nightly "),
        ("priority", "-5"),
        ("metadata", "day=monday\r\nwho = a=b\n\n"),
        ("deadline", "6h"),
        ("max_failures", "2.5%"),
        ("on_invalid", "fail-row"),
        ("reuse", "on"),
        ("csrf_token", "x"),
    )

    assert options.model_dump(exclude_defaults=True) == {
        "pipeline": PIPELINE.name,
        "file_id": "file-a",
        "file_format": "csv",
        "tenant": "acme",
        "input_columns": {"text": "body"},
        "id_column": "sku",
        "passthrough": ["region", "stars"],
        "parameters": {"top_k": 2},
        "name": "nightly",
        "priority": -5,
        "metadata": {"day": "monday", "who": "a=b"},
        "deadline": "6h",
        "max_failures": "2.5%",
        "on_invalid": "fail-row",
        "reuse": True,
    }


def test_rows_may_have_no_ids() -> None:
    options = parse(("column.text", "body"), ("id_column", option_form.NO_IDS))

    assert not options.use_ids
    assert options.id_column is None


def test_bare_texts_need_no_columns() -> None:
    assert parse(bare=True).input_columns is None


@pytest.mark.parametrize(
    ("pairs", "field", "message"),
    [
        ([("column.text", "")], "column.text", "choose the column that has the text"),
        ([("column.text", "a"), ("priority", "high")], "priority", "whole number"),
        ([("column.text", "a"), ("priority", "5000")], "priority", "less than or equal to 1000"),
        ([("column.text", "a"), ("metadata", "monday")], "metadata", "key=value"),
        ([("column.text", "a"), ("parameter.top_k", "x")], "parameter.top_k", "whole number"),
        ([("column.text", "a"), ("on_invalid", "x")], "on_invalid", "reject"),
    ],
)
def test_an_error_stands_beside_its_field(pairs: list[tuple[str, str]], field: str, message: str) -> None:
    names = ["column.text", "parameter.top_k", "priority", "metadata", "on_invalid"]

    with pytest.raises(UsageError, match=message) as caught:
        parse(*pairs)

    assert option_form.field_of(caught.value, names) == field


def test_an_error_of_no_field_stands_above_the_form() -> None:
    assert option_form.field_of(UsageError("the database is full"), ["name"]) is None
    assert option_form.field_of(InvalidParameters("parameter 'other' is unknown"), ["name"]) is None


def test_long_values_are_cut() -> None:
    values = FormValues.of([("name", "x" * 100_000)])

    assert len(values.get("name")) == option_form.MAX_VALUE_CHARACTERS
