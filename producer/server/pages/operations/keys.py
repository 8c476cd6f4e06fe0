"""`/keys`: the API keys, without their secrets, for the operator; a key can be revoked here."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from models.errors import Forbidden, NotFound
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import ActionForm, PageAdmin, Visitor
from producer.server.pages.frame.rendering import confirm, render, see_other
from producer.tenants import keys
from producer.tenants.keys import KeyView

router = APIRouter()

STATES = ("active", "expired", "revoked")
MAX_KEYS = 500

KeyId = Annotated[str, Path(max_length=64)]
Text = Annotated[str, Query(max_length=100)]


@router.get("/keys")
def show_keys(request: Request, context: Context, visitor: PageAdmin, tenant: Text = "", state: Text = "") -> Response:
    """Show the keys, the newest first."""
    _require_operator(visitor)
    everything = keys.list_keys(context.database)[::-1]
    shown = [key for key in everything if tenant in ("", key.tenant or "*") and state in ("", key.state)]
    values = {
        "keys": shown[:MAX_KEYS],
        "total": len(everything),
        "matching": len(shown),
        "tenants": sorted({key.tenant or "*" for key in everything}),
        "states": STATES,
        "tenant": tenant,
        "state": state,
        "own_key": visitor.principal.key_id,
    }
    return render(request, visitor, "operations/keys.html", 200, **values)


@router.get("/keys/{key_id}/revoke")
def confirm_revoke(request: Request, context: Context, visitor: PageAdmin, key_id: KeyId) -> Response:
    """Show whose key it is."""
    _require_operator(visitor)
    values = {"key": _find(context, key_id), "own_key": visitor.principal.key_id}
    return confirm(request, visitor, "operations/_revoke.html", "Revoke a key", **values)


@router.post("/keys/{key_id}/revoke")
def revoke(request: Request, context: Context, visitor: PageAdmin, _form: ActionForm, key_id: KeyId) -> Response:
    """End a key; servers refuse it within a few seconds."""
    _require_operator(visitor)
    keys.revoke_key(context.database, _find(context, key_id).id)
    return see_other(request, visitor, "/keys", f"The key {key_id} is revoked.")


def _find(context: ServerContext, key_id: str) -> KeyView:
    found = next((key for key in keys.list_keys(context.database) if key.id == key_id), None)
    if found is None:
        raise NotFound(f"there is no key {key_id[:40]!r}; see which there are on the page of keys")
    return found


def _require_operator(visitor: Visitor) -> None:
    if not visitor.is_operator:
        raise Forbidden("keys are managed with a key of all tenants")
