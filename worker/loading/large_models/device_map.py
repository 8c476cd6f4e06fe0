"""The device map: a model larger than one device, spread by Accelerate over GPUs, the machine's memory and disk."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import structlog
import torch

from models.errors import LoadFailed
from models.foreign_errors import first_line
from models.pipelines.options import placement
from models.pipelines.pipeline import Pipeline
from worker.layers import spread_weights
from worker.loading.files.snapshots import Snapshot
from worker.loading.large_models.offload_folder import FOLDER_NAME, OffloadFolder

log = structlog.get_logger(__name__)

INSTALL_ADVICE = "pip install -c constraints.txt '.[offload]'"
# Of the free memory of each device, if the entry says nothing: micro-batches and caches need the rest.
DEFAULT_SHARE = 0.8
TEMPORARY_FOLDER_NAME = f"batchmill-{FOLDER_NAME}-{os.geteuid()}"  # of this user, in a folder of all


class SpreadLoad:
    """One load of a model with a device map.

    default_parent: where weights on disk are kept if the entry does not say it, None = the temporary folder.

    Raises LoadFailed if this machine can't do it.
    """

    def __init__(self, pipeline: Pipeline, device: torch.device, default_parent: Path | None) -> None:
        try:
            import accelerate  # noqa: F401
        except ImportError:
            raise LoadFailed(f"device_map needs accelerate; run: {INSTALL_ADVICE}") from None
        if device.type not in ("cpu", "cuda"):
            raise LoadFailed(f"device_map needs CUDA devices or a CPU; this is {device.type}")
        self._pipeline = pipeline
        self._max_memory = _max_memory(pipeline, device)
        parent = Path(pipeline.offload_folder or default_parent or Path(tempfile.gettempdir(), TEMPORARY_FOLDER_NAME))
        try:
            self._folder = OffloadFolder.create(parent)
        except OSError as error:
            problem = error.strerror or first_line(error)
            raise LoadFailed(f"weights can't be kept in {parent}: {problem}; set offload_folder") from error

    @property
    def options(self) -> dict[str, Any]:
        """The options with which transformers loads the weights."""
        return {
            "device_map": self._pipeline.device_map,
            "max_memory": self._max_memory,
            "offload_folder": str(self._folder.path),
        }

    def finish(self, files: Snapshot, model: Any) -> Any:
        """Return the loaded model, whose weights no change of its files can reach."""
        if model.device.type == "meta":
            raise LoadFailed(f"max_memory has no room for the first layers of {files.name}; raise it")
        if self._pipeline.folder is not None:
            _detach_from_files(model, self._folder.path)
        sizes = spread_weights.bytes_by_place(model)
        log.info("model.spread", pipeline=self._pipeline.name, model=files.name, bytes_by_place=sizes)
        weakref.finalize(model, self._folder.release)  # also when the process ends
        return model

    def abandon(self) -> None:
        """Remove what a failed load left on disk."""
        self._folder.release()


def _max_memory(pipeline: Pipeline, device: torch.device) -> dict[int | str, int]:
    """The most bytes for each device, by the names that Accelerate has for them."""
    from accelerate.utils import get_max_memory

    given = placement.parse_max_memory(pipeline.max_memory) if pipeline.max_memory else {}
    free: Mapping[int | str, int] = get_max_memory()
    cpu = given.get("cpu", int(DEFAULT_SHARE * free.get("cpu", 0)))
    if device.type == "cpu":
        return {"cpu": cpu}
    visible = [index for index in free if isinstance(index, int)]
    named: dict[int | str, int] = {
        int(name.removeprefix("cuda:")): size for name, size in given.items() if name != "cpu"
    }
    if missing := sorted(map(str, named.keys() - set(visible))):
        raise LoadFailed(
            f"max_memory names cuda:{missing[0]}, but this process sees {len(visible)} of them; start the workers with "
            "--devices auto, or leave it out"
        )
    gpus: dict[int | str, int] = named or {index: int(DEFAULT_SHARE * free[index]) for index in visible}
    return {**gpus, "cpu": cpu}


def _detach_from_files(model: Any, folder: Path) -> None:
    """Copy what layers read in each pass, because somebody may change a model's folder.

    Weights on disk are read from the model's files, and those in memory may be mapped from them.
    """
    file_copies: dict[str, str] = {}
    tensor_copies: dict[Hashable, torch.Tensor] = {}
    for weights in _offloaded_weights(model):
        for entry in weights.index.values():
            source = entry.get("safetensors_file")
            if source is not None and Path(source).parent != folder:
                entry["safetensors_file"] = _copy_once(source, folder, file_copies)
        for name, tensor in weights.state_dict.items():
            # Tied weights stay one tensor, by whose address Accelerate knows them.
            key = (tensor.data_ptr(), tensor.shape, tensor.stride())
            weights.state_dict[name] = tensor_copies.setdefault(key, tensor.clone())


def _copy_once(source: str, folder: Path, copies: dict[str, str]) -> str:
    if source not in copies:
        copies[source] = str(folder / Path(source).name)
        shutil.copyfile(source, copies[source])
    return copies[source]


def _offloaded_weights(model: Any) -> list[Any]:
    """Accelerate's records of the weights that are brought to their layers, each once."""
    found: dict[int, Any] = {}
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for part in getattr(hook, "hooks", (hook,)):
            weights: Any = getattr(part, "weights_map", None)
            while hasattr(weights, "dataset"):  # names with a prefix
                weights = weights.dataset
            if weights is not None:
                found[id(weights)] = weights
    return list(found.values())
