"""`GET /api/usage`: what a tenant has computed."""

from typing import Any

from fastapi import APIRouter

from models.errors import NotFound
from producer.server.access import Reader
from producer.server.context import Context
from producer.tenants import usage as reports
from producer.tenants.usage import Days

router = APIRouter(tags=["usage"])


@router.get("/usage")
def get_usage(
    principal: Reader, context: Context, tenant: str | None = None, since: str | None = None, until: str | None = None
) -> dict[str, Any]:
    """Report rows, tokens and device seconds by day of UTC, tenant and pipeline.

    A key of one tenant sees its own usage. `since` and `until` are days such as `2026-11-01`, or ages such as `7d`;
    the last 30 days without them. A job that is run again counts again, and a reused result counts nothing.
    """
    if tenant is not None and not principal.may_see(tenant):
        raise NotFound("there is no usage of another tenant to see with this key; leave `tenant` out")
    rows = reports.read_usage(context.database, Days.parse(since, until), tenant or principal.tenant)
    return {"object": "list", "data": [row.as_dict() for row in rows], "has_more": False}
