"""`/v1/batches`: create, list, show and cancel."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from models.states import BatchStatus
from producer.batches import views
from producer.batches.actions import cancel as cancelling
from producer.batches.listing import BatchFilter
from producer.batches.views import BatchView, check_not_deleting
from producer.readers.storable import is_storable
from producer.server.access import Reader, Submitter
from producer.server.context import Context, ServerContext
from producer.server.openai_api import objects
from producer.tenants.principal import Principal
from producer.uploads import result_files
from producer.uploads.intake import openai_batches
from producer.uploads.intake.openai_batches import invalid
from producer.uploads.intake.refused_batches import BatchOrder
from producer.webhooks import webhook_address

router = APIRouter(prefix="/batches", tags=["OpenAI batches"])

DEFAULT_PAGE_BATCHES, MAX_PAGE_BATCHES = 20, 100  # as OpenAI has them
OWN_OPTIONS = ("name", "priority", "max_failures", "on_invalid", "reuse", "webhook_url")


def _check_storable(value: str) -> str:
    if not is_storable(value):
        raise PydanticCustomError("text", "it has a NUL character or half a surrogate pair, which no database stores")
    return value


def _check_max_failures(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """The value; its error names the field alone, not the type that it should be."""
    try:
        return check(value)
    except ValidationError:
        message = "it is not a number of jobs, such as 20, nor a share, such as 2.5%"
        raise PydanticCustomError("max_failures", message) from None


Text = Annotated[str, AfterValidator(_check_storable)]
MaxFailures = Annotated[Text | StrictInt | None, WrapValidator(_check_max_failures)]


class CreateBatch(BaseModel):
    """The body of a request for a batch: OpenAI's fields, then ours."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"input_file_id": "file-abc123", "endpoint": "/v1/embeddings", "completion_window": "24h"}]
        },
    )

    input_file_id: Text = Field(description="An uploaded file with a request on each line.")
    endpoint: Text = Field(description="The url of all its lines, such as /v1/embeddings or /v1/pipelines/NAME.")
    completion_window: Text = Field(description="How long the batch may take, such as 24h; then it expires.")
    metadata: dict[Text, Text] | None = Field(default=None, description="Up to 16 texts of your own.")
    output_expires_after: dict[str, Any] | None = Field(default=None, description="Not supported.")
    name: Text | None = Field(default=None, description="A name to find the batch by.")
    priority: int | None = Field(default=None, description="Higher ones are served first; 0 if left out.")
    max_failures: MaxFailures = Field(default=None, description="More failed jobs end it: 20, or 2.5%.")
    on_invalid: Literal["reject", "fail-row"] | None = Field(
        default=None, description="Whether a bad line fails the batch, as OpenAI has it, or alone."
    )
    reuse: bool | None = Field(default=None, description="Copy results that earlier batches have for the same inputs.")
    webhook_url: Text | None = Field(default=None, description="Called when the batch ends.")


@router.post("")
def create_batch(
    body: CreateBatch, context: Context, principal: Submitter, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Create a batch for an uploaded file; the same request again within two minutes gives the same batch."""
    if body.output_expires_after is not None:
        raise invalid("output_expires_after", "output_expires_after is not supported; delete the files in time")
    if body.webhook_url is not None:
        webhook_address.check_allowed(body.webhook_url, context.settings)
    order = BatchOrder(
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata or {},
        options=body.model_dump(include=set(OWN_OPTIONS), exclude_none=True),
        idempotency_key=idempotency_key,
        tenant=principal.home_tenant,
    )
    opened = openai_batches.create_batch(context.intake, order)
    return _show(context, [views.get_batch(context.database, opened.id)])[0]


@router.get("")
def list_batches(
    context: Context,
    principal: Reader,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_BATCHES)] = DEFAULT_PAGE_BATCHES,
) -> dict[str, Any]:
    """List the batches, the newest first."""
    batch_filter = BatchFilter(after=after or None, tenant=principal.tenant, hides_deleting=True)
    batches = views.list_batches(context.database, limit + 1, batch_filter)
    return objects.list_object(_show(context, batches[:limit]), has_more=len(batches) > limit)


@router.get("/{batch_id}")
def get_batch(batch_id: str, context: Context, principal: Reader) -> dict[str, Any]:
    """Show one batch."""
    return _show(context, [_get(context, principal, batch_id)])[0]


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, context: Context, principal: Submitter) -> dict[str, Any]:
    """Cancel a batch; what is answered already stays."""
    batch = _get(context, principal, batch_id)
    if batch.status is not BatchStatus.CANCELLED:
        batch = cancelling.cancel(context.database, batch_id)
    return _show(context, [batch])[0]


def _get(context: ServerContext, principal: Principal, batch_id: str) -> BatchView:
    batch = context.get_batch(principal, batch_id)
    check_not_deleting(batch)  # OpenAI's clients know no such status
    return batch


def _show(context: ServerContext, batches: list[BatchView]) -> list[dict[str, Any]]:
    found = result_files.find_result_files(context.database, batches)
    return [objects.batch_object(batch, found.get(batch.id)) for batch in batches]
