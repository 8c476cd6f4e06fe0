"""What `batchmill submit` prints of a batch that it has submitted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from models.db import Database
from models.errors import BatchmillError
from models.privacy import terminal
from models.settings import Settings
from models.states import BatchStatus
from producer.batches import views
from producer.cli import common
from producer.cli.batches import wait
from producer.submission import submit as submitting
from producer.submission.ingestion import SubmitResult


def print_id(database: Database, submission: SubmitResult, *, as_json: bool, waits: bool) -> None:
    """Print the id, or with `--json` the batch, unless `--wait` prints it later."""
    # The batch exists now, so print the id before anything that may take seconds or be interrupted.
    if not as_json:
        click.echo(submission.batch_id)
    elif not waits:
        document: dict[str, Any] = {"object": "batch", "id": submission.batch_id}
        with errors_as_warnings(submission):
            document = views.get_batch(database, submission.batch_id).as_dict()
        terminal.echo_json(document)


@contextmanager
def errors_as_warnings(submission: SubmitResult) -> Iterator[None]:
    """Print errors as warnings, because a script that saw a failure would submit the whole batch again."""
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        is_expected = isinstance(error, BatchmillError)
        reason = str(error) if is_expected else f"a defect ({type(error).__name__}) prevents showing it"
        terminal.print_notice(f"warning: {submission.batch_id} is accepted and safe, but {reason}")


def print_summary(settings: Settings, database: Database, submission: SubmitResult) -> None:
    """Print what was accepted, wake workers, and warn if there are none."""
    if submission.source_failure is not None:
        terminal.print_notice(
            f"{submission.batch_id} is incomplete: {submission.source_failure}; the jobs read until then run, and a "
            "failed job at the end stands for the rest"
        )
    if submission.existing_status is not None:
        jobs = terminal.format_count(submission.jobs, "job")
        terminal.print_notice(
            f"{submission.batch_id} was submitted under this key before, with {jobs}: {submission.existing_status}"
        )
        if submission.warning is not None:
            terminal.print_notice(f"warning: {submission.warning}")
        return
    terminal.print_notice(_acceptance_summary(submission))
    if submission.slices:
        warning = submitting.notify_workers(settings, submission.pipeline, submission.slices)
        common.print_worker_warnings(database, settings, submission.pipeline, warning)


def _acceptance_summary(submission: SubmitResult) -> str:
    jobs = terminal.format_count(submission.jobs, "job")
    slices = terminal.format_count(submission.slices, "slice")
    ingested = f", {submission.already_ingested:,} of them already ingested" if submission.already_ingested else ""
    invalid = f", {submission.failed:,} of them failed already as invalid" if submission.failed else ""
    return f"accepted {jobs} in {slices}{ingested}{invalid}{_reuse_summary(submission)}"


def exit_code(database: Database, submission: SubmitResult) -> int:
    """Return the exit code of `batchmill wait` for an earlier batch, which may have failed since."""
    batch = views.get_batch(database, submission.batch_id)
    return (
        wait.exit_code(batch)
        if batch.status.has_ended or batch.status is BatchStatus.CANCELLING
        else wait.EXIT_COMPLETED
    )


def _reuse_summary(submission: SubmitResult) -> str:
    if submission.reused is None:
        return ""
    if submission.not_cacheable_because:
        return f", none of them reused, because {submission.not_cacheable_because}"
    return f", {submission.reused:,} of them reused from earlier batches"
