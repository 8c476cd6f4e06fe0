"""Warnings of responses: what delays workers or webhooks, without the operator's addresses."""

import structlog

from models.settings import Settings
from producer.server.context import ServerContext
from producer.webhooks import webhook_address

NOT_WOKEN = "workers were not woken; the batch is safe in SQL and runs when a worker looks there"

log = structlog.get_logger(__name__)


def notify_workers(context: ServerContext, pipeline: str, slices: int) -> str | None:
    """Wake workers; returns a sentence if that fails, which costs only time. The reason is in the log."""
    warning = context.wakeup_breaker.send(pipeline, slices)
    if warning is None:
        return None
    log.warning("request.wakeups_failed", pipeline=pipeline, error=warning)
    return NOT_WOKEN


def join_warnings(settings: Settings, warning: str | None, webhook_url: str | None) -> str | None:
    """Return a warning together with those about a webhook, or None."""
    found = [] if webhook_url is None else webhook_address.find_warnings(webhook_url, settings)
    return "; ".join([warning, *found] if warning else found) or None
