"""The inventory lists the models on this machine, their sizes, and the batches that used them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CacheNotFound, constants, scan_cache_dir
from sqlalchemy import Row, text

from models.db import Database
from models.embedding.sentence_files import transformer_folder
from models.errors import ModelError
from models.pipelines import precision
from models.pipelines.checkpoint import Checkpoint
from models.pipelines.folder_hash import cached_content_hash
from models.pipelines.model_files import read_object
from models.pipelines.pipeline import BUNDLED_PREFIX, REVISION_SEPARATOR, Pipeline, split_revision
from models.settings import model_hashes_file

MAX_BATCHES_SHOWN = 20
ADAPTER = "adapter"  # the kind of an item that is no model

COUNT_BATCHES_BY_MODEL = (
    "SELECT model, revision, count(*) AS batches FROM batches WHERE revision IS NOT NULL GROUP BY model, revision"
)

SELECT_BATCHES_OF_MODEL = """
SELECT id, status, total, created_at FROM batches
WHERE model = :model AND (revision = :revision OR revision LIKE :with_adapter)
ORDER BY created_at DESC, id DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class CachedRevision:
    """A revision in the Hub's cache, and its size on disk."""

    size_bytes: int
    folder: Path


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """One revision of one model.

    size_bytes: its size on disk, None = not on this machine.
    dtype: the dtype of its weights, None = not known.
    gpu_dtypes: the dtype in which each of its pipelines runs on a GPU.
    guarded_pipelines: the pipelines beside which a guard loads it.
    """

    model: str
    revision: str | None
    location: str  # bundled, folder, cache, or missing
    size_bytes: int | None
    pipeline_names: tuple[str, ...]
    batch_count: int
    dtype: str | None
    gpu_dtypes: dict[str, str | None]
    guarded_pipelines: tuple[str, ...] = ()
    kind: str = "model"  # or adapter

    def as_dict(self) -> dict[str, Any]:
        """Return the form that `batchmill models ls --json` prints."""
        return {
            "object": "model",
            "kind": self.kind,
            "model": self.model,
            "revision": self.revision,
            "where": self.location,
            "size_bytes": self.size_bytes,
            "pipelines": list(self.pipeline_names),
            "batches": self.batch_count,
            "dtype": self.dtype,
            "gpu_dtypes": self.gpu_dtypes,
            "guards_of": list(self.guarded_pipelines),
        }


def list_models(database: Database, pipelines: Mapping[str, Pipeline]) -> list[InventoryItem]:
    """List the catalogue's models, here or not, then all others in the Hub's cache, then the catalogue's adapters."""
    with database.read() as connection:
        rows = connection.execute(text(COUNT_BATCHES_BY_MODEL)).all()
    counts: Counter[tuple[str, str | None]] = Counter()
    for row in rows:
        revision, adapter_revision = split_revision(row.revision)
        counts[row.model, revision] += row.batches
        if adapter_revision is not None:
            counts[ADAPTER, adapter_revision] += row.batches
    cached = _cached_revisions()
    named: dict[tuple[str, str | None], list[Pipeline]] = {}
    for pipeline in pipelines.values():
        named.setdefault((pipeline.model, _resolve_revision(pipeline, cached)), []).append(pipeline)
    adapters: dict[tuple[str, str | None], list[Pipeline]] = {}
    for pipeline in pipelines.values():
        if pipeline.adapter is not None:
            key = pipeline.adapter, _resolve_files(pipeline.adapter_revision, pipeline.adapter_folder)
            adapters.setdefault(key, []).append(pipeline)
    others = [key for key in cached if key not in named and key not in adapters]
    items = [_inventory_item(key, named.get(key, []), cached.get(key), counts[key]) for key in (*named, *others)]
    items += [
        _adapter_item(key, pipelines_of_it, cached.get(key), counts[ADAPTER, key[1]])
        for key, pipelines_of_it in adapters.items()
    ]
    return [replace(item, guarded_pipelines=_guarded_pipelines(item, pipelines)) for item in items]


def list_batches(database: Database, model: str, revision: str, limit: int = MAX_BATCHES_SHOWN) -> list[Row[Any]]:
    """Return the batches that use this revision, with any adapter, the newest first; `limit` bounds their number."""
    with_adapter = f"{revision}{REVISION_SEPARATOR}%"
    params = {"model": model, "revision": revision, "with_adapter": with_adapter, "limit": limit}
    with database.read() as connection:
        return list(connection.execute(text(SELECT_BATCHES_OF_MODEL), params))


def folder_size_bytes(folder: Path) -> int:
    """Return the size of a folder's files in bytes; links count as their targets."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _inventory_item(
    key: tuple[str, str | None], pipelines: Sequence[Pipeline], cached: CachedRevision | None, batch_count: int
) -> InventoryItem:
    model, revision = key
    folder = pipelines[0].folder if pipelines else None
    if folder is not None:
        is_here = folder.is_dir()
        location = "bundled" if model.startswith(BUNDLED_PREFIX) else "folder"
        size = folder_size_bytes(folder) if is_here else None
    else:
        is_here, location = cached is not None, "cache"
        size, folder = (cached.size_bytes, cached.folder) if cached else (None, None)
    folder = transformer_folder(folder) if is_here and folder else None
    checkpoint = Checkpoint.read(folder) if folder else None
    config = read_object(folder / "config.json") if folder else {}
    return InventoryItem(
        model,
        revision,
        location if is_here else "missing",
        size,
        tuple(pipeline.name for pipeline in pipelines),
        batch_count,
        checkpoint.dtype if checkpoint else None,
        {pipeline.name: precision.effective_dtype(pipeline, "cuda", config, checkpoint) for pipeline in pipelines},
    )


def _adapter_item(
    key: tuple[str, str | None], pipelines: Sequence[Pipeline], cached: CachedRevision | None, batch_count: int
) -> InventoryItem:
    folder = pipelines[0].adapter_folder or (cached.folder if cached else None)
    is_here = folder is not None and folder.is_dir()
    location = "folder" if pipelines[0].adapter_folder else "cache"
    return InventoryItem(
        *key,
        location if is_here else "missing",
        folder_size_bytes(folder) if folder is not None and is_here else None,
        tuple(pipeline.name for pipeline in pipelines),
        batch_count,
        None,
        {},
        kind=ADAPTER,
    )


def _guarded_pipelines(item: InventoryItem, pipelines: Mapping[str, Pipeline]) -> tuple[str, ...]:
    names = set(item.pipeline_names)
    return tuple(name for name, pipeline in pipelines.items() if names.intersection(pipeline.guard_pipelines))


def _resolve_revision(pipeline: Pipeline, cached_revisions: Iterable[tuple[str, str | None]]) -> str | None:
    """Return the pinned revision, else a folder's content hash or the only cached revision of a Hub model."""
    if pipeline.revision is not None:
        return pipeline.revision
    if pipeline.folder is None:
        revisions = [revision for model, revision in cached_revisions if model == pipeline.model]
        return revisions[0] if len(revisions) == 1 else None
    return _resolve_files(None, pipeline.folder)


def _resolve_files(revision: str | None, folder: Path | None) -> str | None:
    """Return the pinned revision, else a folder's content hash; None if there is neither."""
    if revision is not None or folder is None:
        return revision
    try:
        return cached_content_hash(folder, model_hashes_file())
    except ModelError:
        return None


def _cached_revisions() -> dict[tuple[str, str | None], CachedRevision]:
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return {}
    return {
        (repository.repo_id, revision.commit_hash): CachedRevision(revision.size_on_disk, revision.snapshot_path)
        for repository in sorted(repositories, key=lambda repository: repository.repo_id)
        if repository.repo_type == "model"
        for revision in repository.revisions
    }
