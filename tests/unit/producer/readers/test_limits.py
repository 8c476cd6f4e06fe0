import pytest

from models.errors import SourceTooLarge
from models.settings import Settings
from producer.readers.limits import DEFAULT_LIMITS, SCALAR_BYTES, Limits, Meter, count_characters, portions, size_bytes


def test_limits_come_from_the_settings() -> None:
    settings = Settings.load(max_input_characters=5, max_source_bytes=6, max_source_rows=7)

    assert Limits.from_settings(Settings.load()) == DEFAULT_LIMITS
    assert Limits.from_settings(settings) == Limits(max_input_characters=5, max_source_bytes=6, max_source_rows=7)


def test_a_meter_names_the_location_and_the_setting() -> None:
    meter = Meter(Limits(max_source_bytes=10))
    meter.add(10, "a.jsonl, line 1")

    with pytest.raises(SourceTooLarge, match=r"a\.jsonl, line 2: the source has more than 10 bytes.*max_source_bytes"):
        meter.add(1, "a.jsonl, line 2")


@pytest.mark.parametrize(
    ("value", "min_bytes", "max_bytes"),
    [
        ("a" * 100, 100, 100),
        (b"a" * 100, 100, 100),
        (None, 1, SCALAR_BYTES),
        (1.5, 1, SCALAR_BYTES),
        ({"text": "a" * 100}, 100, 120),
        (["a" * 50, {"b": ["c" * 50]}], 100, 160),
        ([1] * 100, 100, 1000),
        ({"k" * 100 + str(n): 1 for n in range(100)}, 10_000, 12_000),
    ],
)
def test_the_size_of_a_value_is_approximate(value: object, min_bytes: int, max_bytes: int) -> None:
    assert min_bytes <= size_bytes(value) <= max_bytes


def test_deeply_nested_values_are_measured() -> None:
    deep: list[object] = ["a" * 100]
    for _ in range(100_000):
        deep = [deep]

    assert size_bytes(deep) > 100
    assert count_characters(deep) == 100


def test_the_characters_of_an_input_s_texts_are_counted() -> None:
    assert count_characters("\U0001f600" * 3) == 3
    assert count_characters({"question": "ab", "context": "cde", "top": 5}) == 5
    assert count_characters({"messages": [{"role": "user", "content": "abc"}]}) == 7
    assert count_characters(None) == 0


def test_portions_are_bounded_in_rows_and_bytes() -> None:
    rows = [["a" * 10] for _ in range(7)]

    assert [len(portion) for portion in portions(rows, 3, 10**6)] == [3, 3, 1]
    assert [len(portion) for portion in portions(rows, 100, 30)] == [2, 2, 2, 1]
    assert list(portions([], 3, 10)) == []
