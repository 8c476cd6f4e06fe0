"""Cron expressions in words."""

import pytest

from producer.schedules.timing import cron_fields, cron_words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 2 * * *", "every night at 02:00"),
        ("@daily", "every night at 00:00"),
        ("30 9 * * *", "every day at 09:30"),
        ("0 9 * * 1-5", "every weekday at 09:00"),
        ("0 9 * * MON-FRI", "every weekday at 09:00"),
        ("5 8 * * 0", "every Sunday at 08:05"),
        ("5 8 * * 7", "every Sunday at 08:05"),
        ("5 8 * * sat", "every Saturday at 08:05"),
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("@hourly", "every hour"),
        ("20 * * * *", "every hour, 20 min past the hour"),
        ("0 */6 * * *", "every 6 hours"),
        ("10 */6 * * *", "every 6 hours, 10 min past the hour"),
    ],
)
def test_common_expressions_are_phrased_as_people_say_them(expression: str, words: str) -> None:
    assert cron_words.describe(cron_fields.normalize(expression)) == words


@pytest.mark.parametrize(
    "expression",
    [
        "*/7 * * * *",
        "0 */5 * * *",
        "0 0 L * *",
        "0 8 * * FRI#2",
        "0 8 * * 5L",
        "0 0 13 * 5",
        "*/5 9-17 * * *",
        "0 2 1 * *",
    ],
)
def test_a_step_that_begins_again_each_hour_or_day_is_not_called_an_interval(expression: str) -> None:
    words = cron_words.describe(cron_fields.normalize(expression))

    assert words[0].islower()
    assert not words.startswith(("every 7 minutes", "every 5 hours"))


@pytest.mark.parametrize("expression", ["0 0 1 1 *", "7 3 * 6-8 0", "1-5/2 3 * * *", "0,30 * * * *", "0 2,14 * * 1,3"])
def test_every_expression_has_words(expression: str) -> None:
    assert len(cron_words.describe(cron_fields.normalize(expression))) > 10
