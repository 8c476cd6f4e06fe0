from collections.abc import Iterator
from dataclasses import replace

import pytest

from models.privacy import terminal
from producer.cli.display import batch_tables
from producer.cli.display.progress import LINE_INTERVAL_SECONDS, LineReporter
from producer.live_view.words import format_rate
from tests.unit.producer.workers.test_workers import batch

STEERING = "\x1b[2J\x1b]0;owned\x07\r\n\t\x9b31m\u202eabc\u2066\0\u2028"


def test_control_characters_are_escaped() -> None:
    clean = terminal.to_printable(f"a{STEERING}ä 猫 👍")

    assert clean.isprintable()
    assert clean.startswith("a")
    assert clean.endswith("ä 猫 👍")


def test_shortened_texts_fit_their_width() -> None:
    assert terminal.shorten("short", 10) == "short"
    assert terminal.shorten("a  rather\nlong text", 10) == "a rather…"
    assert terminal.display_width(terminal.shorten("猫" * 50, 11)) <= 11


def test_tables_are_aligned_with_any_text() -> None:
    lines = terminal.format_table(("NAME", "JOBS"), [("a\x1b[1m", 1_234), ("猫猫", 5)]).splitlines()

    assert lines == ["NAME    JOBS", "a [1m  1,234", "猫猫       5"]


def test_pairs_have_no_control_characters() -> None:
    assert "\x1b" not in terminal.format_pairs([("name", "a\x1b[1m")])


@pytest.mark.parametrize(("pace", "words"), [(None, None), (0.1234, "0.12 jobs/s"), (1_234.5, "1,234 jobs/s")])
def test_rates(pace: float | None, words: str | None) -> None:
    assert format_rate(pace) == words


def test_progress_lines_are_at_most_one_per_interval(capsys: pytest.CaptureFixture[str]) -> None:
    def clock() -> Iterator[float]:
        yield 0.0
        for second in range(1, 100):
            yield from (float(second), float(second)) if second % LINE_INTERVAL_SECONDS == 0 else (float(second),)

    seconds = clock()
    lines = LineReporter("running", lambda: next(seconds))

    for done in range(1, 13):
        lines(done, 1_000, "3 failed")

    assert capsys.readouterr().err.splitlines() == [
        "running: 5 of 1,000 jobs, 3 failed",
        "running: 10 of 1,000 jobs, 3 failed",
    ]


def test_lines_elsewhere_repeat_an_equal_one_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = LineReporter("running", lambda: now)

    for second in range(0, 130, 5):
        now = float(second)
        lines(0 if second < 100 else 1, 4, "waiting")

    waiting = "running: 0 of 4 jobs, waiting"
    assert capsys.readouterr().err.splitlines() == [waiting, waiting, "running: 1 of 4 jobs, waiting"]


def test_a_batch_s_adapter_has_a_line_of_its_own() -> None:
    adapted = replace(batch("base+own"), adapter="org/adapter", adapter_revision="own")

    lines = [line.split() for line in batch_tables.batch_details(adapted).splitlines()]

    assert ["model", "m@base"] in lines
    assert ["adapter", "org/adapter@own"] in lines
