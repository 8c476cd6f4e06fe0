"""Structured text: every text meets its schema, or its row fails; other rows are as they would be without it."""

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import jsonschema
import pytest

from models.errors import JobError
from tests.factories import tiny_decoders
from tests.factories.forward_passes import TEXTS, encode_texts, load_adapter
from worker.adapters.control import output_schemas
from worker.adapters.rows import Row
from worker.passes import planning

GREEDY = {"do_sample": False, "max_new_tokens": 60}
SEEDED = {"seed": 3, "max_new_tokens": 60, "temperature": 1.5}

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["fröhlich", "😀", None]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
PROPERTY_COUNT = {"minProperties": 2, "maxProperties": 3}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "v": {"type": "boolean"},
                "next": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
            },
            "required": ["v", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS = [
    PERSON,
    TREE,
    {"const": {"größe": "Ω≈ç√", "n": [1, None]}},
    {"type": "string", "pattern": "^[a-c]{2,5}$"},
    {"type": "string", "pattern": r"^\S\W[^\w]$"},
    {"const": {"pattern": r"\S"}},
    {"type": "string", "format": "date"},
    {"type": "number", "exclusiveMinimum": -3, "maximum": 12.5},
    {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 99},
    {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "minItems": 2, "maxItems": 3},
    {"type": "object", "patternProperties": {"^[a-z]$": {"type": "null"}}, "additionalProperties": False}
    | PROPERTY_COUNT,
]
PATTERNS = [r"(yes|no)", r"\d{4}-\d{2}", r"[ä-ö]{3}ß", r"(ab|cd){2,4}!?", r"[^a]{3}", r"[\d.]{3}\w\s", r"\W\D\S"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_adapter(tiny_decoders.llama(tmp_path_factory.mktemp("llama"), generation={}))


def answers(adapter: Any, rows: Sequence[Row], token_budget: int = 10_000) -> list[Any]:
    """The text of each row, or the code of its error."""
    found: dict[int, Any] = {}
    for batch in planning.plan_micro_batches(rows, token_budget, adapter.max_rows):
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True):
            found[row.job.position] = answer(adapter, row, raw)
    return [found[position] for position in sorted(found)]


def answer(adapter: Any, row: Row, raw: Any) -> Any:
    try:
        [record] = adapter.decode([row], [raw])
    except JobError as error:
        return f"!{error.code}"
    return record["generated_text"]


@pytest.mark.parametrize("parameters", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(schema)[:40])
def test_each_text_meets_its_json_schema_or_its_row_fails(
    adapter: Any, schema: dict[str, Any], parameters: dict[str, Any]
) -> None:
    rows = encode_texts(adapter, TEXTS, output_schema=schema, **parameters)

    texts = answers(adapter, rows)

    met = [text for text in texts if text != "!schema_unmet"]
    assert len(met) >= 1
    for text in met:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    assert texts == answers(adapter, rows, token_budget=1), "alone as together"


@pytest.mark.parametrize("parameters", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_text_matches_its_regular_expression(adapter: Any, pattern: str, parameters: dict[str, Any]) -> None:
    texts = answers(adapter, encode_texts(adapter, TEXTS, output_schema=pattern, **parameters))

    assert all(re.fullmatch(pattern, text) for text in texts)


def test_a_text_that_runs_out_of_tokens_fails_its_row(adapter: Any) -> None:
    rows = encode_texts(
        adapter, ["a", "b"], output_schema={"type": "string", "minLength": 9}, **GREEDY | {"max_new_tokens": 5}
    )

    assert answers(adapter, rows) == ["!schema_unmet"] * 2


def test_rows_beside_it_and_rows_that_enter_are_as_without_it(adapter: Any) -> None:
    plain = encode_texts(adapter, TEXTS, **GREEDY)
    alone = answers(adapter, plain)
    schemas: list[Any] = [None, PERSON, TREE, "(yes|no)"]
    rows = [row for schema in schemas for row in encode_texts(adapter, TEXTS, output_schema=schema, **GREEDY)]

    mixed = {
        (row.job.lease.parameters.get("output_schema"), row.job.position): answer(adapter, row, raw)
        for batch in planning.plan_micro_batches(rows, 10_000, adapter.max_rows)
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True)
    }

    assert [mixed[None, position] for position in range(len(TEXTS))] == alone


def test_rows_enter_beside_rows_with_the_same_schema(adapter: Any) -> None:
    rows = encode_texts(adapter, TEXTS, output_schema=PERSON, **GREEDY)
    alone = answers(adapter, rows, token_budget=1)
    waiting = rows[2:]

    def fetch_more(count: int) -> list[Row]:
        taken = waiting[:count]
        del waiting[:count]
        return taken

    finished = [pair for group in adapter.generate(rows[:2], fetch_more, 3) for pair in group]

    assert {row.job.position: answer(adapter, row, raw) for row, raw in finished} == dict(enumerate(alone))


def test_properties_are_written_in_the_order_of_the_schema(adapter: Any) -> None:
    schema = {"type": "object", "properties": {key: {"const": 1} for key in "zay"}, "required": ["z", "a", "y"]}
    schema["additionalProperties"] = False

    [text] = answers(adapter, encode_texts(adapter, ["x"], output_schema=schema, **GREEDY))

    assert text == '{"z": 1, "a": 1, "y": 1}'


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ('{"a": 1}', True),
        (r'{"b": "\u0061\": \n", "c": ": "}', True),
        (r'{"\n\u001F\\": 1, "ü": {"\"": 2}}', True),
        (r'{"\u0061": "x"}', False),
        (r'{"b": ["x", {":\u0061": 1}]}', False),
        (r'{"\ud83d\ude00": 1}', False),
        ('{"a": 1, "a": 2}', False),
        ('{"a": 1e999}', False),
    ],
)
def test_a_key_in_another_spelling_than_that_of_the_schema_fails_its_row(text: str, is_met: bool) -> None:
    with nullcontext() if is_met else pytest.raises(JobError, match=r"; (set|name|bound) ") as error:
        output_schemas._check_readable(text)

    assert is_met or error.value.code == "schema_unmet"
