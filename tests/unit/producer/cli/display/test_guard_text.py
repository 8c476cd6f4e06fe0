from dataclasses import replace

import pytest

from producer.batches.batch_view import GuardCounts
from producer.cli.display import batch_tables, guard_text
from producer.live_view import words
from tests.factories.guard_rows import verdict
from tests.factories.result_rows import FAILED_FIELDS, result_row
from tests.unit.producer.batches.test_views import view
from tests.unit.producer.live_view.test_words import progress_of

INJECTION = GuardCounts("injection", "input", "fail", passed=1_996, blocked=4, device_seconds=1.0)
SECRETS = GuardCounts("secrets", "output", "redact", passed=1_990, flagged=1, redacted=5)
QUIET = GuardCounts("quiet", "output", "flag", passed=2_000)
BATCH = view(guards=(INJECTION, SECRETS, QUIET), device_seconds=3.0, working_seconds=5.0)


def test_a_line_for_each_guard() -> None:
    assert guard_text.guard_lines(BATCH.guards) == [
        "injection (input): 1,996 passed, 4 blocked",
        "secrets (output): 1,990 passed, 1 flagged, 5 redacted",
        "quiet (output): 2,000 passed",
    ]


def test_only_guards_that_caught_something_are_named_in_a_line() -> None:
    assert words.format_caught(BATCH.guards) == "injection 4 blocked; secrets 1 flagged, 5 redacted"
    assert words.format_caught([QUIET]) == ""


def test_failures_are_grouped_by_the_guard_that_blocked_them() -> None:
    assert guard_text.format_blocked([INJECTION, SECRETS, replace(QUIET, blocked=1_000)]) == (
        "4 by injection, 1,000 by quiet"
    )


def test_a_result_names_the_guards_that_caught_it() -> None:
    row = result_row(guards=[verdict("a"), verdict("b", "flag", score=0.9), verdict("c", "redact", "output", spans=2)])

    assert guard_text.format_verdicts(row) == "flagged by b, redacted by c"
    assert guard_text.format_verdicts(result_row()) == ""
    [flagged, plain] = batch_tables.result_lines([row, result_row(1, guards=[verdict("a")])], 120)
    assert "POSITIVE 0.5000, flagged by b, redacted by c  good" in flagged
    assert "by" not in plain
    blocked = result_row(**FAILED_FIELDS | {"error_code": "guard_blocked"}, guards=[verdict("a", "fail")])
    assert "failed: guard_blocked, blocked by a" in batch_tables.result_lines([blocked], 120)[0]


@pytest.mark.parametrize(
    ("batch", "words"),
    [(BATCH, "guards took 1.0 s of it (25%)"), (replace(BATCH, guards=(SECRETS,)), None), (view(), None)],
)
def test_the_device_time_of_guards_and_its_share(batch: object, words: str | None) -> None:
    assert guard_text.format_guard_time(batch) == words  # type: ignore[arg-type]


def test_details_show_guards_and_their_time() -> None:
    lines = batch_tables.batch_details(BATCH).splitlines()

    assert any(line.split() == ["device", "time", "4.0", "s", "(one", "device,", "80%", "busy)"] for line in lines)
    assert any(line.split()[0] == "guards" and "4 blocked" in line for line in lines)
    device_line = next(index for index, line in enumerate(lines) if line.startswith("device time"))
    assert lines[device_line + 1].split() == ["guards", "took", "1.0", "s", "of", "it", "(25%)"]
    assert "guard" not in batch_tables.batch_details(view())


def test_summaries_and_progress_say_what_guards_caught() -> None:
    caught = "guards: injection 4 blocked; secrets 1 flagged, 5 redacted"
    progress = replace(progress_of(), batch=replace(progress_of().batch, guards=BATCH.guards))

    assert caught in words.summary(BATCH)
    assert caught in words.line_parts(progress)
    assert "injection 4 blocked" in words.details(progress)
    assert "guard" not in words.summary(view())
    assert "guard" not in words.details(progress_of())
