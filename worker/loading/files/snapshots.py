"""Snapshots locate a pipeline's files: a Hub commit in the local cache, or a folder identified by its content."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)

from models.embedding import sentence_files
from models.embedding.sentence_files import SentenceFiles
from models.errors import BatchmillError, LoadFailed, MissingModel, ModelError, Unreachable
from models.foreign_errors import first_line
from models.pipelines.folder_hash import FolderState, content_hash
from models.pipelines.pipeline import Pipeline
from models.tasks.feature_extraction import FEATURE_EXTRACTION
from worker.loading.files import vetting

# Weights as safetensors only, because other formats can run code when they are opened.
ALLOW_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja"]
LAYER_WEIGHTS = "model.safetensors"
COMMIT_HASH = re.compile(r"[0-9a-f]{40}")
TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}  # the Hub is busy or broken: no fault of the model


_hashed_folders: "dict[tuple[str, Path], Snapshot]" = {}  # of this process, a few names at most


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The local files of one revision; `folder_state` is a folder's state when its content was hashed."""

    name: str
    folder: Path
    revision: str
    folder_state: FolderState | None = field(default=None, compare=False, repr=False)

    @property
    def has_changed(self) -> bool:
        """Whether the files have changed, even temporarily, since the revision was determined."""
        return self.folder_state is not None and not self.folder_state.has_revision(self.folder, self.revision)

    @property
    def transformer_folder(self) -> Path:
        """The folder with the files of transformers, which some models of sentence-transformers have apart."""
        return sentence_files.transformer_folder(self.folder)

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises ModelError if it is missing or unreadable."""
        return _read_config(self)


def fetch_model(pipeline: Pipeline) -> Snapshot:
    """Return the model's files, fetched from the Hub if necessary.

    Raises ModelError if they are missing or unsafe, and Unreachable if the Hub is unreachable.
    """
    snapshot = fetch_model_unchecked(pipeline)
    check(snapshot, pipeline)
    return snapshot


def fetch_model_unchecked(pipeline: Pipeline) -> Snapshot:
    """Return the model's files without checking that they are safe and complete."""
    return _fetch("model", pipeline.model, pipeline.folder, pipeline.revision)


def find_local_model(pipeline: Pipeline) -> Snapshot | None:
    """Return the model's files on this machine without a network request; None if they are not here."""
    try:
        if pipeline.folder is not None:
            return fetch_model_unchecked(pipeline)
        folder = snapshot_download(pipeline.model, revision=pipeline.revision, local_files_only=True)
    except (ModelError, LocalEntryNotFoundError, HFValidationError):
        return None
    return Snapshot(pipeline.model, Path(folder), Path(folder).name)


def fetch_tokenizer(pipeline: Pipeline, model_files: Snapshot) -> Snapshot:
    """Return the tokenizer's files, by default the model's own. Raises ModelError if they are unsafe."""
    if pipeline.tokenizer is None:
        return model_files
    snapshot = _fetch("tokenizer", pipeline.tokenizer, pipeline.tokenizer_folder, pipeline.tokenizer_revision)
    vetting.check(snapshot.name, snapshot.folder)
    return snapshot


def fetch_adapter(pipeline: Pipeline) -> Snapshot | None:
    """Return the files of the pipeline's adapter, fetched from the Hub if necessary, unchecked; None without one."""
    if pipeline.adapter is None:
        return None
    return _fetch("adapter", pipeline.adapter, pipeline.adapter_folder, pipeline.adapter_revision)


def find_local_adapter(pipeline: Pipeline) -> Snapshot | None:
    """Return the adapter's files on this machine without a network request; None if they are not here."""
    if pipeline.adapter is None:
        return None
    try:
        if pipeline.adapter_folder is not None:
            return fetch_adapter(pipeline)
        folder = snapshot_download(pipeline.adapter, revision=pipeline.adapter_revision, local_files_only=True)
    except (ModelError, LoadFailed, LocalEntryNotFoundError, HFValidationError):
        return None
    return Snapshot(pipeline.adapter, Path(folder), Path(folder).name)


def _fetch(key: str, name: str, folder: Path | None, pinned_revision: str | None) -> Snapshot:
    if folder is None:
        return _download(name, pinned_revision)
    snapshot = _hashed_folders.get((name, folder))
    if snapshot is None or snapshot.has_changed:  # the files of a base that pipelines share are not read again
        state = FolderState.from_folder(folder)  # before the files are read, so that a change meanwhile is detected
        snapshot = _hashed_folders[name, folder] = Snapshot(name, folder, content_hash(folder, key), state)
    if pinned_revision not in (None, snapshot.revision):
        raise LoadFailed(f"{name} has content {snapshot.revision} here, but the catalogue pins {pinned_revision}")
    return snapshot


def _download(repo_id: str, revision: str | None) -> Snapshot:
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=ALLOW_PATTERNS))
    except LocalEntryNotFoundError as error:
        raise Unreachable(
            f"{repo_id} is not in the local cache and the Hub does not answer: {first_line(error)}"
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{repo_id!r} is neither a folder nor a Hub id: {first_line(error)}") from error
    except HfHubHTTPError as error:
        raise _refusal_error(repo_id, revision, error) from error
    except Exception as error:  # a proxy, a broken transfer, a full disk: no fault of the model
        raise Unreachable(f"{repo_id} could not be fetched: {first_line(error)}") from error
    # The cache names a snapshot's folder by its commit, but the resolver does not enforce it.
    if not COMMIT_HASH.fullmatch(folder.name):
        raise ModelError(f"{repo_id} resolved to {folder.name!r}, which is no commit; pin a full commit hash")
    return Snapshot(repo_id, folder, folder.name)


def _refusal_error(repo_id: str, revision: str | None, error: HfHubHTTPError) -> BatchmillError:
    """Return the error for a refusal by the Hub, which other machines with a token or the files may not meet."""
    status = error.response.status_code
    address = f"{repo_id} at {revision or 'main'}"
    if isinstance(error, RevisionNotFoundError):
        return MissingModel(f"the Hub has no {address}; pin a revision that it has")
    if isinstance(error, GatedRepoError) or status in (401, 403):
        return LoadFailed(
            f"the Hub refuses {address} ({status}); accept the model's terms there, and set HF_TOKEN here"
        )
    if status == 404:
        return MissingModel(f"the Hub has no {repo_id}, or shows it to others only; check its name, and HF_TOKEN")
    if status in TRANSIENT_STATUSES:
        return Unreachable(f"the Hub can't give {repo_id} now ({status}); it will be tried again")
    return LoadFailed(f"the Hub refuses {address}: {first_line(error)}")


def check(snapshot: Snapshot, pipeline: Pipeline) -> None:
    """Check the files of a model. Raises ModelError if they are unsafe or incomplete."""
    _ = snapshot.config
    vetting.check(snapshot.name, snapshot.folder)
    if not any(snapshot.transformer_folder.glob("*.safetensors")):
        raise _no_safetensors(snapshot, pipeline)
    if pipeline.spec.name == FEATURE_EXTRACTION.name:
        _check_layers(snapshot, pipeline)


def _check_layers(snapshot: Snapshot, pipeline: Pipeline) -> None:
    """Check that each layer of an embedding model, which has a folder apart, has weights."""
    try:
        files = SentenceFiles.read(snapshot.folder)
    except ModelError as error:
        raise ModelError(f"{snapshot.name}: {error}") from error
    for step in files.steps if files else ():
        if step.kind != "normalize" and not (snapshot.folder / step.path / LAYER_WEIGHTS).is_file():
            raise _no_safetensors(snapshot, pipeline, f" in {step.path}")


def _no_safetensors(snapshot: Snapshot, pipeline: Pipeline, place: str = "") -> ModelError:
    is_hub_model = COMMIT_HASH.fullmatch(snapshot.revision)
    advice = f"run: batchmill models pull {pipeline.name} --convert" if is_hub_model else "convert them"
    return ModelError(f"{snapshot.name} has no safetensors weights{place}, and other formats can run code; {advice}")


def _read_config(snapshot: Snapshot) -> dict[str, Any]:
    try:
        config = vetting.read_json(snapshot.name, snapshot.transformer_folder / "config.json")
    except FileNotFoundError:
        raise ModelError(f"{snapshot.name} has no config.json; it is not a transformers model") from None
    if not isinstance(config, dict):
        raise ModelError(f"{snapshot.name}: config.json is not an object")
    return config
