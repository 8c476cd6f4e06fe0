"""What is a cron expression, and what is said of one that isn't."""

import pytest

from models.errors import UsageError
from producer.schedules.timing import cron_fields


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        (" 0  2 * *\tMON-FRI ", "0 2 * * MON-FRI"),
        ("@daily", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("5-5/2,7 05-5/02 1 * mon-MON/2", "5,7 5 1 * mon"),
        ("1-15/2 2-20/2 1 * *", "1-15/2 2-20/2 1 * *"),
    ],
)
def test_it_is_spelled_as_five_fields(text: str, spelled: str) -> None:
    assert cron_fields.normalize(text) == spelled
    assert cron_fields.normalize(spelled) == spelled


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not have five fields"),
        ("0 2 * *", "does not have five fields"),
        ("0 0 2 * * *", "6 fields; leave the seconds or the year out"),
        ("0 2 * * * 2026 *", "7 fields"),
        ("@reboot", "no known name; take @hourly"),
        ("61 2 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 2 32 * *", "bad day-of-month"),
        ("0 2 * FOO *", "bad month"),
        ("0 2 * * FRI-MON", "bad day-of-week"),
        ("0 2 * * MON#6", "bad day-of-week"),
        ("0 2 ? * *", "bad day-of-month"),
        ("*/0 2 * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 */30 2 MON#5", "never comes"),
        ("9" * 5000 + " 2 * * *", "does not have five fields"),
        ("0 2 * * \N{FULLWIDTH DIGIT ONE}", "does not have five fields"),
        ("5-5/0 2 * * *", "bad minute"),
        ("0 2 L/0 * *", "bad day-of-month"),
        ("0 2 L-3 * *", "bad day-of-month"),
    ],
)
def test_one_sentence_says_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        cron_fields.normalize(text)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("expression", "is_fixed"),
    [
        ("0 2 * * *", True),
        ("0,30 1-3 * * *", True),
        ("*/15 2 * * *", False),
        ("0 * * * *", False),
        ("0 */2 * * *", False),
    ],
)
def test_a_star_in_minute_or_hour_makes_a_rhythm(expression: str, is_fixed: bool) -> None:
    assert cron_fields.parse_fields(expression).has_fixed_times is is_fixed
