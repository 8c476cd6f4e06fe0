"""The LoRA adapters of pipelines, as the commands under `batchmill models` fetch and describe them."""

from typing import Any

from models.errors import BatchmillError
from models.pipelines.pipeline import Pipeline
from worker.cli.guard_models import FETCH_ADVICE
from worker.loading.files import inventory, snapshots
from worker.loading.files.snapshots import Snapshot
from worker.loading.lora.adapter_files import AdapterFiles


def fetch(pipeline: Pipeline) -> Snapshot | None:
    """Fetch and check the files of a pipeline's adapter; None without one. Raises ModelError if they are unusable."""
    snapshot = snapshots.fetch_adapter(pipeline)
    if snapshot is not None:
        AdapterFiles.read(snapshot)
    return snapshot


def describe(pipeline: Pipeline) -> dict[str, Any] | None:
    """Return the adapter of a pipeline, and what can be known of its files here; None without one."""
    if pipeline.adapter is None:
        return None
    snapshot = snapshots.find_local_adapter(pipeline)
    described: dict[str, Any] = {
        "adapter": pipeline.adapter,
        "revision": snapshot.revision if snapshot else pipeline.adapter_revision,
        "folder": str(snapshot.folder) if snapshot else None,
        "size_bytes": inventory.folder_size_bytes(snapshot.folder) if snapshot else None,
        "trained_on": None,
        "is_for_other_model": None,
        "refusal": None,
    }
    if snapshot is not None:
        try:
            files = AdapterFiles.read(snapshot)
        except BatchmillError as error:
            return described | {"refusal": str(error)}
        described |= {"trained_on": files.trained_on, "is_for_other_model": files.is_for_other(pipeline.model)}
    return described


def summary(pipeline: Pipeline, described: dict[str, Any] | None) -> str | None:
    """Return a line for `models show`; None without an adapter."""
    if described is None:
        return None
    line = f"{described['adapter']}@{described['revision'] or 'unknown'}"
    if described["refusal"]:
        return f"{line}; it is refused: {described['refusal']}"
    if described["folder"] is None:
        is_folder = pipeline.adapter_folder is not None
        return f"{line}, which is not here; {'correct adapter' if is_folder else FETCH_ADVICE.format(pipeline.name)}"
    if described["is_for_other_model"]:
        return f"{line}; it says that it was trained on {described['trained_on']}, not on this model"
    return line
