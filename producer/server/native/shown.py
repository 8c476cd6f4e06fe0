"""What tenants see of the operator's machines: no folders, hosts or processes."""

from collections.abc import Iterable, Mapping
from typing import Any

from models.privacy.folders import last_part
from producer.batches.blocker import Blocker
from producer.batches.views import BatchView
from producer.results.result_row import ResultRow, without_folders

FOLDER_FIELDS = ("model", "adapter", "tokenizer", "offload_folder", "registered_by")
OWN_CODES = ("queued", "waiting_for_retry", "guard_missing", "other_revision")  # messages about the batch alone
MESSAGES = {
    "no_worker": "no worker serves {pipeline} now; the operator has to start one",
    "model_loading": "a worker is loading {pipeline}",
    "workers_busy": "workers have another pipeline loaded, and switch when that is done",
}
LOAD_FAILED = "workers can't load {pipeline}, and try again; the operator finds the reason in their log"


def batch_object(batch: BatchView, tenant: str | None) -> dict[str, Any]:
    """Return a batch as its reader may see it.

    tenant: the reader's; None = the operator, who sees all
    """
    return hide_folders(batch.as_dict(), tenant)


def hide_folders(document: Mapping[str, Any], tenant: str | None) -> dict[str, Any]:
    """Return a document that names folders by their last part alone."""
    if tenant is None:
        return dict(document)
    return {
        name: last_part(value) if name in FOLDER_FIELDS and isinstance(value, str) else value
        for name, value in document.items()
    }


def result_rows(rows: Iterable[ResultRow], tenant: str | None) -> Iterable[ResultRow]:
    """Return results as their reader may see them."""
    return rows if tenant is None else map(without_folders, rows)


def worker_object(document: Mapping[str, Any], tenant: str | None) -> dict[str, Any]:
    """Return a worker process without what only its operator may see: folders, and why it can't load a model."""
    hidden: dict[str, Any] = {} if tenant is None else {"load_failures": []}
    return hide_folders(document, tenant) | hidden


def blocker_objects(blockers: Iterable[Blocker], pipeline: str, tenant: str | None) -> list[dict[str, str]]:
    """Return the reasons why a batch waits as its reader may see them."""
    if tenant is None:
        return [blocker.as_dict() for blocker in blockers]
    public = [
        blocker
        if blocker.code in OWN_CODES
        else Blocker(blocker.code, MESSAGES.get(blocker.code, LOAD_FAILED).format(pipeline=pipeline))
        for blocker in blockers
    ]
    return [blocker.as_dict() for blocker in dict.fromkeys(public)]
