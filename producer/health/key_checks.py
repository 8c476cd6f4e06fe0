"""Findings on the API keys of the server."""

import ipaddress
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from models.db import Database
from models.errors import InsufficientPrivilege
from models.privacy.terminal import format_count
from models.settings import Settings
from producer.health.findings import OK, PROBLEM, WARNING, Finding
from producer.tenants import keys
from producer.tenants.keys import KeyView

EXPIRES_SOON, UNUSED_FOR = timedelta(days=14), timedelta(days=90)
MAX_FINDINGS = 20  # on single keys


def check_keys(database: Database, settings: Settings) -> Iterator[Finding]:
    """Check the keys in the database; nothing for a role that may not see them, as one that only reads."""
    try:
        views = keys.list_keys(database)
    except InsufficientPrivilege:
        return
    yield from find_key_problems(views, settings.serve_host, datetime.now(UTC))


def find_key_problems(views: Sequence[KeyView], serve_host: str, now: datetime) -> Iterator[Finding]:
    """Decide the findings. Pure.

    serve_host: the address on which a server would listen
    """
    active = [view for view in views if view.state == "active"]
    if not views:
        if not _is_loopback(serve_host):
            advice = "without keys it serves this machine only; make one: batchmill keys create --tenant NAME"
            yield Finding(
                PROBLEM, "keys", f"no server can start on {serve_host[:80]}, because there are no keys", advice
            )
        return
    if not active:
        advice = "make another one: batchmill keys create --tenant NAME"
        yield Finding(WARNING, "keys", "each key was revoked or has expired, so servers refuse everybody", advice)
        return
    single = [finding for view in active for finding in _check_key(view, now)]
    tenants = len({view.tenant for view in active})
    yield Finding(OK, "keys", f"{format_count(len(active), 'active key')} of {format_count(tenants, 'tenant')}")
    yield from single[:MAX_FINDINGS]
    if len(single) > MAX_FINDINGS:
        yield Finding(WARNING, "keys", f"and {len(single) - MAX_FINDINGS:,} more like these", "see batchmill keys ls")


def _check_key(view: KeyView, now: datetime) -> Iterator[Finding]:
    name = f"key {view.id} of {f'tenant {view.tenant}' if view.tenant else 'all tenants'}"
    if view.expires_at is not None and view.expires_at - now <= EXPIRES_SOON:
        days = max(0, (view.expires_at - now).days)
        yield Finding(
            WARNING, "keys", f"{name} expires in {format_count(days, 'day')}", "give its holder a new one in time"
        )
    last_use = view.last_used_at or view.created_at
    if now - last_use >= UNUSED_FOR:
        message = f"{name} was not used for {format_count((now - last_use).days, 'day')}"
        yield Finding(WARNING, "keys", message, f"if nobody needs it: batchmill keys revoke {view.id}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
