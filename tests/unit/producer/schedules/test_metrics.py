"""The metrics' text, line by line."""

from datetime import UTC, datetime

from producer.schedules.metrics import ScheduleMetrics, render

SUMMARY = {"total": 1000, "failed": 3, "reused": 700, "seconds": 12.5, "drift": {"worst": 0.21}}


def lines(*schedules: ScheduleMetrics) -> list[str]:
    return [line for line in render(schedules).splitlines() if not line.startswith("#")]


def test_everything_of_a_schedule() -> None:
    scheduled_at = datetime(2026, 3, 1, 1, tzinfo=UTC)
    result = lines(ScheduleMetrics("nightly", {"completed": 7, "missed": 1}, scheduled_at, 90.0, SUMMARY))

    assert result == [
        'batchmill_schedule_last_completed_scheduled_timestamp_seconds{schedule="nightly"} 1772326800',
        'batchmill_schedule_runs{schedule="nightly",state="waiting"} 0',
        'batchmill_schedule_runs{schedule="nightly",state="running"} 0',
        'batchmill_schedule_runs{schedule="nightly",state="completed"} 7',
        'batchmill_schedule_runs{schedule="nightly",state="failed"} 0',
        'batchmill_schedule_runs{schedule="nightly",state="skipped"} 0',
        'batchmill_schedule_runs{schedule="nightly",state="missed"} 1',
        'batchmill_schedule_overdue_seconds{schedule="nightly"} 90',
        'batchmill_schedule_last_run_rows{schedule="nightly"} 1000',
        'batchmill_schedule_last_run_failed_rows{schedule="nightly"} 3',
        'batchmill_schedule_last_run_reused_rows{schedule="nightly"} 700',
        'batchmill_schedule_last_run_seconds{schedule="nightly"} 12.5',
        'batchmill_schedule_last_run_drift{schedule="nightly"} 0.21',
    ]


def test_what_there_is_not_has_no_line() -> None:
    result = lines(ScheduleMetrics("new"))

    assert len(result) == 7
    assert not any("last_" in line for line in result)
    assert 'batchmill_schedule_overdue_seconds{schedule="new"} 0' in result


def test_a_family_stands_together_under_its_help_and_type() -> None:
    result = render([ScheduleMetrics("a"), ScheduleMetrics("b")]).splitlines()

    place = result.index("# TYPE batchmill_schedule_overdue_seconds gauge")
    assert result[place - 1].startswith("# HELP batchmill_schedule_overdue_seconds ")
    assert [line.split()[0] for line in result[place + 1 : place + 3]] == [
        'batchmill_schedule_overdue_seconds{schedule="a"}',
        'batchmill_schedule_overdue_seconds{schedule="b"}',
    ]
    assert len({line for line in result if line.startswith("# TYPE")}) == 9
    assert render([]).endswith("\n")


def test_rows_by_guard_and_verdict() -> None:
    guards = {"injection": {"passed": 97, "flagged": 0, "redacted": 0, "blocked": 3}}

    result = lines(ScheduleMetrics("nightly", summary=SUMMARY | {"guards": guards}))

    start = 'batchmill_schedule_last_run_guard_rows{schedule="nightly",guard="injection",verdict='
    assert [line for line in result if "guard" in line] == [
        f'{start}"passed"}} 97',
        f'{start}"flagged"}} 0',
        f'{start}"redacted"}} 0',
        f'{start}"blocked"}} 3',
    ]


def test_labels_are_escaped() -> None:
    [line] = [line for line in lines(ScheduleMetrics('a"b\\c\nd')) if "overdue" in line]

    assert line == 'batchmill_schedule_overdue_seconds{schedule="a\\"b\\\\c\\nd"} 0'
