import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from producer.readers.kept_input import MAX_CHARACTERS, keep_input
from producer.readers.storable import UnreadableValue, is_storable


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else "deep"


@pytest.mark.parametrize(
    ("raw_input", "kept"),
    [
        (None, {}),
        ("", {"text": ""}),
        (3, {"row": 3}),
        ([1, "a"], {"row": [1, "a"]}),
        ({"text": "", "n": 1.5, "b": True}, {"text": "", "n": 1.5, "b": True}),
        ({"text": "a\0b\udc00"}, {"text": "a\\0b\\udc00"}),
        ({"a\0": 1, 2: 3}, {"a\\0": 1, "2": 3}),
        ({"x": math.nan, "y": -math.inf}, {"x": "nan", "y": "-inf"}),
        (
            {"x": Decimal("1.50"), "t": datetime(2026, 3, 1, tzinfo=UTC)},
            {"x": "1.50", "t": "2026-03-01T00:00:00+00:00"},
        ),
        ({"x": b"\xffab"}, {"x": "\\xffab"}),
    ],
)
def test_an_input_is_kept_as_json_that_every_database_stores(raw_input: object, kept: dict[str, Any]) -> None:
    assert keep_input(raw_input, "text") == (kept, False)


@pytest.mark.parametrize(
    "raw_input",
    [
        "x" * (MAX_CHARACTERS + 1),
        {"a": "x" * 10_000, "b": "\U0001f600" * 10_000},
        {"text": ["x"] * 10**6},
        {"text": list(range(10**6))},
        {str(key): key for key in range(10**5)},
        {"text": nested(500)},
        {"n": 10**5_000},
        {"b": b"x" * 10**7},
        {"text": UnreadableValue("is no text")},
        {"x" * 10**6: 1},
    ],
)
def test_what_is_too_large_is_cut_and_said_to_be(raw_input: object) -> None:
    kept, is_cut = keep_input(raw_input, "text")

    document = json.dumps(kept, ensure_ascii=False)
    assert is_cut
    assert len(document) < 8 * MAX_CHARACTERS
    assert is_storable(document)
