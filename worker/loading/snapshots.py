"""Where a pipeline's files are, and exactly which: a Hub commit in the local cache, or a folder by its content."""

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

from models.errors import BatchmillError, LoadFailed, MissingModel, ModelError, Unreachable, first_line
from models.pipelines.folder_hash import State, content_hash
from models.pipelines.pipeline import Pipeline
from worker.loading import vetting

# Weights as safetensors only: the other formats run code when they are opened.
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja"]
COMMIT = re.compile(r"[0-9a-f]{40}")
PASSING = {408, 429, 500, 502, 503, 504}  # HTTP: the Hub is busy or broken, and says nothing about the model


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files on this machine, those of a revision; `state` is how a folder was when that was found out."""

    name: str
    folder: Path
    revision: str
    state: State | None = field(default=None, compare=False, repr=False)

    @property
    def has_changed(self) -> bool:
        """Whether the files are not those of the revision any more, or were not for a while."""
        return self.state is not None and not self.state.is_still_that_of(self.folder, self.revision)

    @property
    def config(self) -> dict[str, Any]:
        """config.json; raises ModelError where there is none that can be read."""
        return _config(self)


def model(pipeline: Pipeline) -> Snapshot:
    """The model's files; raises ModelError where they are missing or unsafe, Unreachable where the Hub is away."""
    snapshot = found(pipeline)
    check(snapshot, pipeline.name)
    return snapshot


def found(pipeline: Pipeline) -> Snapshot:
    """The same, whether the files are fit to be used or not."""
    return _find(pipeline.model, pipeline.folder, pipeline.revision)


def local(pipeline: Pipeline) -> Snapshot | None:
    """The model's files as far as they are on this machine, asking nobody; None where they are not."""
    try:
        if pipeline.folder is not None:
            return found(pipeline)
        folder = snapshot_download(pipeline.model, revision=pipeline.revision, local_files_only=True)
    except (ModelError, LocalEntryNotFoundError, HFValidationError):
        return None
    return Snapshot(pipeline.model, Path(folder), Path(folder).name)


def tokenizer(pipeline: Pipeline, of_model: Snapshot) -> Snapshot:
    """The tokenizer's files: the model's own unless the catalogue names others. Raises ModelError where unsafe."""
    if pipeline.tokenizer is None:
        return of_model
    snapshot = _find(pipeline.tokenizer, pipeline.tokenizer_folder, pipeline.tokenizer_revision)
    vetting.check(snapshot.name, snapshot.folder)
    return snapshot


def _find(name: str, folder: Path | None, pinned: str | None) -> Snapshot:
    if folder is None:
        return _download(name, pinned)
    state = State.of(folder)  # before the files are read, so that what changes meanwhile shows
    snapshot = Snapshot(name, folder, content_hash(folder), state)
    if pinned not in (None, snapshot.revision):
        raise LoadFailed(f"{name} has content {snapshot.revision} here, but the catalogue pins {pinned}")
    return snapshot


def _download(repository: str, revision: str | None) -> Snapshot:
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=WANTED))
    except LocalEntryNotFoundError as error:
        raise Unreachable(
            f"{repository} is not in the local cache and the Hub does not answer: {first_line(error)}"
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{repository!r} is neither a folder nor a Hub id: {first_line(error)}") from error
    except HfHubHTTPError as error:
        raise _refused(repository, revision, error) from error
    except Exception as error:  # a proxy, a broken transfer, a full disk: nothing that speaks against the model
        raise Unreachable(f"{repository} could not be fetched: {first_line(error)}") from error
    # The cache names a snapshot's folder by its commit; the resolver fails open, so hold it to that.
    if not COMMIT.fullmatch(folder.name):
        raise ModelError(f"{repository} resolved to {folder.name!r}, which is no commit; pin a full commit hash")
    return Snapshot(repository, folder, folder.name)


def _refused(repository: str, revision: str | None, error: HfHubHTTPError) -> BatchmillError:
    """A refusal of the Hub speaks against no model: another machine may have a token, or the files already."""
    status = error.response.status_code
    where = f"{repository} at {revision or 'main'}"
    if isinstance(error, RevisionNotFoundError):
        return MissingModel(f"the Hub has no {where}; pin a revision that it has")
    if isinstance(error, GatedRepoError) or status in (401, 403):
        return LoadFailed(f"the Hub refuses {where} ({status}); accept the model's terms there, and set HF_TOKEN here")
    if status == 404:
        return MissingModel(f"the Hub has no {repository}, or shows it to others only; check its name, and HF_TOKEN")
    if status in PASSING:
        return Unreachable(f"the Hub can't give {repository} now ({status}); it will be tried again")
    return LoadFailed(f"the Hub refuses {where}: {first_line(error)}")


def check(snapshot: Snapshot, pipeline: str) -> None:
    """Raise ModelError where the files are unsafe, or not a model's."""
    _ = snapshot.config
    vetting.check(snapshot.name, snapshot.folder)
    if not any(snapshot.folder.glob("*.safetensors")):
        mend = (
            f"run: batchmill models pull {pipeline} --convert"
            if COMMIT.fullmatch(snapshot.revision)
            else "convert them"
        )
        raise ModelError(f"{snapshot.name} has no safetensors weights, and other formats can run code; {mend}")


def _config(snapshot: Snapshot) -> dict[str, Any]:
    try:
        config = vetting.config(snapshot.name, snapshot.folder / "config.json")
    except FileNotFoundError:
        raise ModelError(f"{snapshot.name} has no config.json; it is not a transformers model") from None
    if not isinstance(config, dict):
        raise ModelError(f"{snapshot.name}: config.json is not an object")
    return config
