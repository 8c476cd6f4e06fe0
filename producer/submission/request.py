"""A request describes the batch to submit; it is validated before any of its rows is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from models.errors import UsageError
from models.pipelines.pipeline import Pipeline
from producer.readers.storable import is_storable
from producer.tenants.principal import DEFAULT_TENANT, check_tenant
from producer.times import Deadline
from producer.webhooks.webhook_address import check_webhook_url

MAX_NAME_CHARACTERS = 200
IDEMPOTENCY_KEY = "idempotency-key"  # the header over HTTP
MAX_IDEMPOTENCY_KEY_CHARACTERS = 255  # as Stripe has it
# As OpenAI's Batch object has them.
MAX_METADATA_ENTRIES, MAX_METADATA_KEY_CHARACTERS, MAX_METADATA_VALUE_CHARACTERS = 16, 64, 512
PRIORITIES = range(-1000, 1001)

# A row that can't be a job either rejects the whole batch, or becomes a failed job.
ON_INVALID = REJECT, FAIL_ROW = "reject", "fail-row"


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """The number of failed jobs that a batch allows, or their share of all jobs; one more ends the batch."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read `20` or `2.5%`; raises UsageError."""
        match = re.fullmatch(r"(\d{1,18})|(\d{1,3}(?:\.\d+)?)%", value.strip())
        if match is None or (match[2] is not None and float(match[2]) > 100):
            raise UsageError(
                f"max_failures {value[:80]!r} is not a number of jobs, such as 20, nor a share, such as 2.5%",
                param="max_failures",
            )
        return cls(int(match[1])) if match[2] is None else cls(share=float(match[2]) / 100)

    def count_for(self, jobs: int) -> int:
        """The number of failed jobs that a batch of this many jobs allows."""
        return self.count if self.count is not None else int((self.share or 0.0) * jobs)


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A validated request; its rows are read later.

    parameters: those of the task, with the pipeline's templates as `prompt` and `system`.
    source_batch_id: the batch whose results are the rows; None = they come from elsewhere.
    tenant: to whom the batch belongs.
    webhook_url: called when the batch ends; None = nothing is called.
    max_unanswered_jobs: the most that the tenant may have with those of this batch; None = any number.
    """

    pipeline: Pipeline
    parameters: dict[str, Any]
    name: str | None
    metadata: dict[str, str]
    priority: int
    keep_invalid: bool
    deadline: Deadline | None = None
    max_failures: FailureLimit | None = None
    idempotency_key: str | None = None
    reuse: bool = False  # copy results that earlier batches have for the same inputs
    source_batch_id: str | None = None
    tenant: str = DEFAULT_TENANT
    webhook_url: str | None = None
    max_unanswered_jobs: int | None = None

    @classmethod
    def create(
        cls,
        pipeline: Pipeline,
        *,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        on_invalid: str = REJECT,
        deadline: str | None = None,
        max_failures: str | int | None = None,
        idempotency_key: str | None = None,
        reuse: bool = False,
        source_batch_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
        webhook_url: str | None = None,
        max_unanswered_jobs: int | None = None,
    ) -> Self:
        """Validate a request; raises UsageError, naming the field that is wrong."""
        check_options(
            name=name,
            metadata=metadata,
            priority=priority,
            on_invalid=on_invalid,
            max_failures=max_failures,
            idempotency_key=idempotency_key,
            webhook_url=webhook_url,
        )
        # A submission repeated under its idempotency key may come after its deadline; `open_or_resume` checks new ones.
        parse_deadline = Deadline.parse_future if idempotency_key is None else Deadline.parse
        check_tenant(tenant)
        return cls(
            pipeline,
            parameters=pipeline.check_parameters({**pipeline.parameters, **(parameters or {})})
            | pipeline.template_parameters,
            name=name or None,
            metadata=dict(metadata or {}),
            priority=priority,
            keep_invalid=on_invalid == FAIL_ROW,
            deadline=None if deadline is None else parse_deadline(deadline),
            max_failures=None if max_failures is None else FailureLimit.parse(str(max_failures)),
            idempotency_key=idempotency_key,
            reuse=reuse,
            source_batch_id=source_batch_id,
            tenant=tenant,
            webhook_url=None if webhook_url is None else check_webhook_url(webhook_url),
            max_unanswered_jobs=max_unanswered_jobs,
        )

    def with_recorded(self, parameters: Mapping[str, Any]) -> Self:
        """The request with the parameters of its batch, whose templates the operator may have changed since."""
        return replace(self, pipeline=self.pipeline.with_templates(parameters), parameters=dict(parameters))


def check_options(
    *,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    priority: int = 0,
    on_invalid: str = REJECT,
    max_failures: str | int | None = None,
    idempotency_key: str | None = None,
    webhook_url: str | None = None,
) -> None:
    """Raise UsageError for an option that is wrong whatever the pipeline is."""
    if name is not None:
        _check_text("the name", name, MAX_NAME_CHARACTERS, "name")
    if idempotency_key is not None:
        _check_text("the idempotency key", idempotency_key, MAX_IDEMPOTENCY_KEY_CHARACTERS, IDEMPOTENCY_KEY)
        if not idempotency_key.strip():
            message = "the idempotency key is empty; use a name for this submission, such as a date"
            raise UsageError(message, param=IDEMPOTENCY_KEY)
    if priority not in PRIORITIES:
        message = f"priority {priority!r} is out of range; use {PRIORITIES[0]} to {PRIORITIES[-1]}"
        raise UsageError(message, param="priority")
    if on_invalid not in ON_INVALID:
        raise UsageError(f"on_invalid {on_invalid!r} is not known; use {' or '.join(ON_INVALID)}", param="on_invalid")
    if max_failures is not None:
        FailureLimit.parse(str(max_failures))
    if webhook_url is not None:
        check_webhook_url(webhook_url)
    _check_metadata(metadata or {})


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > MAX_METADATA_ENTRIES:
        message = f"metadata has {len(metadata)} entries; at most {MAX_METADATA_ENTRIES} are kept"
        raise UsageError(message, param="metadata")
    for key, value in metadata.items():
        _check_text("a metadata key", key, MAX_METADATA_KEY_CHARACTERS, "metadata")
        _check_text(f"metadata {key!r}", value, MAX_METADATA_VALUE_CHARACTERS, "metadata")


def _check_text(label: str, value: object, max_characters: int, param: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{label} must be text", param=param)
    if len(value) > max_characters:
        raise UsageError(f"{label} has {len(value):,} characters; at most {max_characters} are kept", param=param)
    if not is_storable(value):
        message = f"{label} has a NUL character or half a surrogate pair, which no database stores"
        raise UsageError(message, param=param)
