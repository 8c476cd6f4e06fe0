"""`batchmill submit --dry-run` reports what a submission would contain, without submitting it."""

import itertools

import click

from models.guards.definition import Guard
from models.lifecycle.guard_counters import COUNTER_BY_ACTION
from models.privacy import terminal
from models.settings import Settings
from producer.cli.display import batch_tables, progress
from producer.dry_run import dry_run
from producer.dry_run.dry_run import MAX_PROBLEMS_LISTED, DryRunReport
from producer.dry_run.guard_trial import GuardTrial, TrialEnd
from producer.dry_run.input_lengths import LengthHistogram
from producer.live_view import words
from producer.readers.rows import Source
from producer.submission.request import SubmitRequest

BAR_WIDTH = 40
MAX_NAMES_LISTED = 20
TRIAL_ENDS = {
    TrialEnd.SLOW: "the rules are slow, so the rows after these were not tried",
    TrialEnd.FAILED: "the last of these rows would fail, because a rule takes too long; those after it were not tried",
}
# What becomes of inputs over the model's limit.
FATES = {
    "truncated": "be cut, and marked as truncated",
    "failed": "fail",
    "windowed": "be read in overlapping windows, each of which takes its own time",
}


def print_dry_run(settings: Settings, request: SubmitRequest, source: Source, *, as_json: bool) -> bool:
    """Dry-run a submission and print the report; returns whether it would be accepted."""
    dry_run.check_pipeline(request, settings.resolved_database_url)
    with progress.show_progress("checking") as report:
        result = dry_run.dry_run(request, source, settings.slice_size, lambda rows: report(rows, None, ""))
    result.forecast = dry_run.forecast_for(result, request, settings.resolved_database_url)
    if as_json:
        terminal.echo_json(result.as_dict())
    else:
        click.echo(_format_report(result))
    is_acceptable = request.keep_invalid or not result.invalid
    verdict = "" if is_acceptable else ", and this would be refused"
    terminal.print_notice(f"a dry run: nothing was submitted{verdict}")
    return is_acceptable


def _format_report(report: DryRunReport) -> str:
    pairs: list[tuple[str, object]] = [
        ("rows", f"{report.rows:,}"),
        ("jobs", f"{report.jobs:,} in {terminal.format_count(report.slices, 'slice')}"),
        ("invalid rows", _format_invalid_rows(report)),
        *(("", terminal.to_printable(problem)) for problem in report.problems),
        ("columns", _format_names(report)),
        *(("note", terminal.to_printable(doubt)) for doubt in report.doubts),
        ("takes", _format_estimate(report)),
        ("length", f"in {report.lengths.unit}, {report.lengths.max_length:,} at most"),
        *(("", line) for line in _length_bars(report.lengths.bins())),
        ("too long", _format_too_long(report.lengths)),
        *zip(itertools.chain(["guards"], itertools.repeat("")), _guard_lines(report.guards), strict=False),
    ]
    return terminal.format_pairs([(name, value) for name, value in pairs if value is not None])


def _format_names(report: DryRunReport) -> str | None:
    """The first names that were given to the columns of a file without a header."""
    names = report.column_names
    if not names:
        return None
    more = len(names) - MAX_NAMES_LISTED
    shown = terminal.to_printable(", ".join(names[:MAX_NAMES_LISTED]))
    return f"{shown}{f' and {more:,} more' if more > 0 else ''}, as named; line 1 is a row"


def _format_invalid_rows(report: DryRunReport) -> str:
    if not report.invalid:
        return "none"
    codes = ", ".join(f"{count:,} {code}" for code, count in report.invalid.most_common())
    more = f"; the first {MAX_PROBLEMS_LISTED}:" if report.invalid.total() > MAX_PROBLEMS_LISTED else ":"
    return f"{report.invalid.total():,} ({codes}){more}"


def _format_estimate(report: DryRunReport) -> str:
    forecast = report.forecast
    if forecast is None:
        return "not known: no batch with this pipeline, model and parameters has been answered yet"
    duration = batch_tables.format_short_duration(forecast.seconds)
    if forecast.is_upper_bound:
        return f"at most about {duration}, judged by batches that were far smaller"
    return f"about {duration} at {words.format_rate(forecast.jobs_per_second)}, judged by the last batches"


def _format_too_long(lengths: LengthHistogram) -> str | None:
    limit = lengths.limit
    if limit is None:
        return None if lengths.unit == "tokens" else "not known: the model's tokenizer is not on this machine"
    new_tokens = f", beside {limit.new_tokens:,} new ones" if limit.new_tokens else ""
    most = f"{limit.tokens:,} tokens{new_tokens}"
    if not lengths.too_long:
        return f"none: all fit into {most}"
    verb = "have" if lengths.too_long != 1 else "has"
    return f"{terminal.format_count(lengths.too_long, 'row')} {verb} more than {most}: they will {FATES[limit.outcome]}"


def _guard_lines(trial: GuardTrial) -> list[str]:
    """Return a line for each guard that a submission will meet, with what its rules would catch."""
    lines = [f"{name} ({guard.on}): {_trial_outcome(trial, name, guard)}" for name, guard in trial.guards.items()]
    if trial.end in TRIAL_ENDS:
        lines.append(TRIAL_ENDS[trial.end])
    return lines


def _trial_outcome(trial: GuardTrial, name: str, guard: Guard) -> str:
    if guard.pipeline is not None:
        return f"by the model of {guard.pipeline}, which a dry run does not load"
    if guard.on == "output":
        return "a rule for outputs, which a dry run does not have"
    caught = f"{trial.caught[name]:,}" if trial.caught[name] else "none"
    return (
        f"{caught} of the first {terminal.format_count(trial.rows, 'row')} would be {COUNTER_BY_ACTION[guard.action]}"
    )


def _length_bars(rows: list[tuple[int, int]]) -> list[str]:
    if not rows:
        return []
    max_count = max(count for _, count in rows)
    width = len(f"{rows[-1][0]:,}")
    return [f"≤ {top:>{width},}  {'█' * -(-BAR_WIDTH * count // max_count)} {count:,}".rstrip() for top, count in rows]
