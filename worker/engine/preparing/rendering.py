"""Rendering puts a row's fields into the prompt of its batch, between the guards of inputs and the tokenizer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.errors import JobError
from worker.adapters.rows import Row
from worker.leasing.leases import Job

if TYPE_CHECKING:
    from worker.adapters.interface import Adapter


def encode_rendered(adapter: "Adapter", jobs: Sequence[Job]) -> Sequence[list[Row] | JobError]:
    """Encode the jobs as their batches' prompts render them; a job that can't be rendered gets its JobError.

    The rows hold the rendered jobs, so that outputs quote what the model read.
    """
    if all(job.lease.prompt is None for job in jobs):
        return adapter.encode(jobs)
    rendered = [render(job) for job in jobs]
    encoded = iter(adapter.encode([job for job in rendered if isinstance(job, Job)]))
    return [next(encoded) if isinstance(job, Job) else job for job in rendered]


def render(job: Job) -> Job | JobError:
    """Return the job with the input that the model reads."""
    prompt = job.lease.prompt
    if prompt is None:
        return job
    try:
        rendered = prompt.render(job.input)
    except JobError as error:
        return error
    return replace(job, input=rendered, size_bytes=_count_bytes(rendered))


def rendered_bytes(job: Job) -> int:
    """The approximate size of the input that the model reads, without rendering it."""
    prompt = job.lease.prompt
    return job.size_bytes if prompt is None else max(job.size_bytes, prompt.count_characters(job.input))


def _count_bytes(value: Any) -> int:
    """The size of the texts in a document."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, Mapping):
        return sum(map(_count_bytes, value.values()))
    return sum(map(_count_bytes, value)) if isinstance(value, list) else 0
