"""`GET /api/usage`: what a tenant has computed."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from models.errors import NotFound
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses
from producer.tenants import usage as reports
from producer.tenants.usage import Days

router = APIRouter(tags=["usage"])

Day = Annotated[str | None, Query(max_length=100, examples=["2026-11-25", "7d"])]


class Usage(BaseModel):
    """What a tenant has computed with a pipeline on a day of UTC."""

    object: Literal["usage"]
    day: str = Field(examples=["2026-11-25"])
    tenant: str
    pipeline: str
    succeeded: int
    failed: int
    tokens: int
    padded_tokens: int
    device_seconds: float = Field(description="With the time of guards.")


class UsageList(BaseModel):
    """Usage by day, tenant and pipeline."""

    object: Literal["list"]
    data: list[Usage]


@router.get("/usage", summary="Report what tenants used", response_model=UsageList)
def get_usage(
    principal: Reader,
    context: Context,
    tenant: Annotated[str | None, Query(max_length=64, description="Only this tenant.")] = None,
    since: Day = None,
    until: Day = None,
) -> Response:
    """Report rows, tokens and device seconds by day of UTC, tenant and pipeline.

    A key of one tenant sees its own usage. `since` and `until` are days, both included, or ages; without them it is the
    last 30 days. A job that is run again counts again, and a reused result counts nothing.
    """
    if tenant is not None and not principal.may_see(tenant):
        raise NotFound("this key sees the usage of its tenant only; leave `tenant` out")
    rows = reports.read_usage(context.database, Days.parse(since, until), tenant or principal.tenant)
    return responses.list_response([row.as_dict() for row in rows])
