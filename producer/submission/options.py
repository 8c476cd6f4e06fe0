"""The options of a submission from Python or over HTTP, as its caller gave them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.pipelines.pipeline import Pipeline
from producer.submission.request import SubmitRequest, check_options
from producer.tenants.principal import DEFAULT_TENANT

# Of a request; the others say which columns its rows have, and `tenant` may have a default of its door.
CHECKED_OPTIONS = ("name", "metadata", "priority", "on_invalid", "max_failures", "idempotency_key", "webhook_url")
REQUEST_OPTIONS = (*CHECKED_OPTIONS, "parameters", "deadline", "reuse")


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How a batch runs and which columns its rows have; `Client.submit` describes each."""

    parameters: Mapping[str, Any] | None = None
    name: str | None = None
    metadata: Mapping[str, str] | None = None
    priority: int = 0
    on_invalid: str = "reject"
    deadline: str | None = None
    max_failures: str | int | None = None
    idempotency_key: str | None = None
    input_columns: Mapping[str, str] | None = None
    id_column: str | None = None
    passthrough: str | Iterable[str] = ()
    reuse: bool = False
    webhook_url: str | None = None
    tenant: str | None = None

    def check(self) -> None:
        """Raise UsageError for options that are wrong whatever the pipeline is."""
        check_options(**{name: getattr(self, name) for name in CHECKED_OPTIONS})

    def request(
        self, pipeline: Pipeline, source_batch_id: str | None, max_unanswered_jobs: int | None
    ) -> SubmitRequest:
        """Return the request; raises UsageError, naming the option that is wrong.

        source_batch_id: the batch whose results are the rows; None = they come from elsewhere
        max_unanswered_jobs: the most that the tenant may have with those of this batch; None = any number
        """
        return SubmitRequest.create(
            pipeline,
            **{name: getattr(self, name) for name in REQUEST_OPTIONS},
            tenant=self.tenant or DEFAULT_TENANT,
            source_batch_id=source_batch_id,
            max_unanswered_jobs=max_unanswered_jobs,
        )

    def passthrough_columns(self) -> Iterable[str]:
        """The columns to keep; a single one need not be in a list."""
        is_single = isinstance(self.passthrough, str) or not isinstance(self.passthrough, Iterable)
        return (str(self.passthrough),) if is_single else self.passthrough
