"""Rendering: the model reads the prompt, and a row that makes none fails alone."""

from collections.abc import Sequence
from typing import Any

from models.errors import JobError
from models.guards.definition import Guard
from models.pipelines.options.prompt_template import PromptTemplate, parse_templates
from models.tasks.fields import MAX_TEXT_CHARACTERS
from worker.adapters.rows import Row
from worker.engine.preparing.input_guards import InputGuards
from worker.engine.preparing.preparation import MAX_CALL_BYTES, PreparedRows, RowPreparer, split_into_calls
from worker.engine.preparing.rendering import render, rendered_bytes
from worker.guards.screener import Screener
from worker.leasing.leases import Job, Lease
from worker.passes.watchdog import Watchdog


class FakeAdapter:
    """Encodes each job as one row; `texts` has those that it read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        self.texts += [job.input["text"] for job in jobs]
        return [[Row(job, None, 10, truncated=False)] for job in jobs]


def prepare(adapter: Any, jobs: Sequence[Job], **guards: Guard) -> PreparedRows:
    input_guards = InputGuards(Screener("input", guards, {}, {}), 1_000, lambda _: True)
    preparer = RowPreparer(adapter, lambda _: False, Watchdog(1000.0, lambda: None), 10**6, input_guards)
    [portion] = preparer.prepare(jobs)
    return portion


def lease_for(prompt: str | None, slice_id: int = 1) -> Lease:
    template: PromptTemplate | None = parse_templates(prompt, None)
    return Lease(slice_id, f"batch {slice_id}", 0, 1_000, 1, 1, prompt=template)


def test_rows_hold_what_the_model_read_and_rejected_ones_what_was_submitted() -> None:
    adapter, lease = FakeAdapter(), lease_for("<{title}> {body}")
    inputs = [{"title": "a", "body": "{title}"}, {"title": "b"}, {"title": "c", "body": ""}]
    jobs = [Job(lease, position, job_input, 20) for position, job_input in enumerate(inputs)]

    portion = prepare(adapter, jobs)

    assert adapter.texts == ["<a> {title}", "<c> "]
    assert [(row.job.position, row.job.input) for row in portion.rows] == [
        (0, {"text": "<a> {title}"}),
        (2, {"text": "<c> "}),
    ]
    [(row, error)] = portion.rejected
    assert (row.job.position, row.job.input) == (1, inputs[1])
    assert isinstance(error, JobError)
    assert error.code == "missing_field"


def test_jobs_of_batches_with_and_without_a_prompt_share_a_call() -> None:
    adapter = FakeAdapter()
    jobs = [Job(lease_for("{x}!"), 0, {"x": "a"}), Job(lease_for(None, 2), 0, {"text": "a"})]

    portion = prepare(adapter, jobs)

    assert adapter.texts == ["a!", "a"]
    assert [row.job.lease.slice_id for row in portion.rows] == [1, 2]


def test_equal_rows_with_other_prompts_are_computed_apart() -> None:
    adapter = FakeAdapter()
    prompts = ["{x}", "{x}", "{x}!"]
    jobs = [Job(lease_for(prompt, number), 0, {"x": "a"}) for number, prompt in enumerate(prompts)]

    portion = prepare(adapter, jobs)

    assert adapter.texts == ["a", "a!"]
    assert [len(row.duplicates) for row in portion.rows] == [1, 0]


def test_guards_read_the_fields_and_not_the_operators_words() -> None:
    adapter, lease = FakeAdapter(), lease_for("Tell no secret of {x}: {y}")
    jobs = [Job(lease, 0, {"x": "a secret", "y": "b"}), Job(lease, 1, {"x": "c", "y": "d"})]

    portion = prepare(adapter, jobs, words=Guard(on="input", action="redact", words=("secret",)))

    assert adapter.texts == ["Tell no secret of a [REDACTED]: b", "Tell no secret of c: d"]
    first, second = (row.job.screening for row in portion.rows)
    assert first is not None
    assert second is not None
    assert (first.redacted, second.redacted) == ({"x": "a [REDACTED]", "y": "b"}, None)


def test_a_text_that_a_redaction_made_too_long_is_an_error_of_its_row() -> None:
    job = Job(lease_for("{x}"), 0, {"x": "x" * (MAX_TEXT_CHARACTERS + 1)})

    error = render(job)

    assert isinstance(error, JobError)
    assert error.code == "text_too_long"


def test_sizes_are_those_of_the_rendered_text() -> None:
    lease = lease_for("x" * 10_000 + "{x}" * 100)
    jobs = [Job(lease, position, {"x": "ab"}, 10) for position in range(20)]

    calls = list(split_into_calls([(job, ()) for job in jobs]))

    assert rendered_bytes(jobs[0]) == 10_200
    assert [len(call) for call in calls] == [MAX_CALL_BYTES // 10_200] * 3 + [2]
    rendered = render(jobs[0])
    assert isinstance(rendered, Job)
    assert rendered.size_bytes == 10_200
