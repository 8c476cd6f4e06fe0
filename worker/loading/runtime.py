"""The runtime is one pipeline loaded in this process, with the exact version of each part."""

import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import structlog
import torch
from transformers.utils import logging as transformers_logging

from models.errors import LoadFailed, ModelError
from models.pipelines.pipeline import Pipeline, join_revisions
from worker.adapters.interface import Adapter, LaunchingAdapter
from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS
from worker.layers import int8_linear, spread_weights, torchao_linear
from worker.loading import (
    guard_models,
    load_errors,
    load_report,
    loaded_version,
    memory_share,
    shared_weights,
    task_adapter,
    token_budgets,
    weights,
)
from worker.loading.files import integrity, snapshots
from worker.loading.files.snapshots import Snapshot
from worker.loading.lora.adapter_files import AdapterFiles
from worker.loading.versions import RuntimeVersion

log = structlog.get_logger(__name__)

Role = Literal["pipeline", "guard"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded pipeline and its token budget.

    micro_batch_tokens: the initial token budget, in padded tokens.
    threads: torch's threads when the pipeline was loaded.
    weight_bytes: the size of the weights and buffers, those of the guards included.
    tunable: whether the token budget may be tuned for speed.
    max_micro_batch_tokens: the upper bound of the token budget.
    guards: the models of the pipeline's guards, by the names of their pipelines.
    parameters: the catalogue entry's own.
    is_spread: whether the weights lie on several devices or on disk.
    """

    adapter: Adapter
    version: RuntimeVersion
    micro_batch_tokens: int
    model: Any
    device: torch.device
    threads: int
    weight_bytes: int
    tunable: bool = False
    max_micro_batch_tokens: int = MAX_MICRO_BATCH_TOKENS
    guards: Mapping[str, "Runtime"] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_spread: bool = False

    @property
    def can_offload(self) -> bool:
        """Whether the models can leave their device and return; those that are spread or quantized on a GPU can't."""
        is_movable = self.device.type == "cpu" or self.version.quantization is None
        return is_movable and not self.is_spread and all(guard.can_offload for guard in self.guards.values())

    def release_memory(self) -> None:
        """Free the memory that the device's allocator caches."""
        if self.device is not None and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def is_memory_taken_by_others(self, error: BaseException) -> bool:
        """Whether this out-of-memory error is due to other processes on the device, so that it may pass."""
        return self.device is not None and memory_share.is_taken_by_others(self.device, error)

    @property
    def shared_sizes(self) -> dict[int, int]:
        """The bytes of each tensor that the models may share with those of other pipelines, by its identity."""
        sizes = shared_weights.shared_sizes(self.model)
        for guard in self.guards.values():
            sizes |= guard.shared_sizes
        return sizes

    def offload(self, *, keeps_shared: bool = False) -> None:
        """Move the model and its guards to the CPU and free the device's memory.

        keeps_shared: leave the model's weights that other pipelines may share on the device.
        """
        for guard in self.guards.values():
            guard.offload()
        if self.device.type != "cpu":
            shared_weights.move_model(self.model, "cpu", keeps_shared=keeps_shared)
            self.release_memory()

    def restore(self) -> None:
        """Move the model and its guards back to their device."""
        for guard in self.guards.values():
            guard.restore()
        shared_weights.move_model(self.model, self.device)
        torch.set_num_threads(self.threads)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How the models of a pipeline are loaded; as in `load`."""

    device: str
    micro_batch_tokens: int | None
    processes: int
    offload_parent: Path | None


def load(
    pipeline: Pipeline,
    device: str,
    *,
    threads: int | None = None,
    micro_batch_tokens: int | None = None,
    processes: int = 1,
    offload_parent: Path | None = None,
) -> Runtime:
    """Load a pipeline onto a device.

    device: a torch device or `auto`, used unless the pipeline names a device.
    threads: torch's threads, rounded down to a power of two for a deterministic pipeline, None = torch's default.
    micro_batch_tokens: a fixed token budget, None = the pipeline's, else one that is tuned.
    processes: how many processes share the device and its memory.
    offload_parent: the folder for weights on disk, None = the temporary folder.

    Raises ModelError with the revision if the files are unusable, LoadFailed if this machine can't load them or those
    of a guard, and Unreachable if a later try may succeed.
    """
    if threads:
        is_deterministic = any(entry.deterministic for entry in (pipeline, *pipeline.guard_pipelines.values()))
        # A power of two divides rows evenly among threads: see Collation.
        threads = 1 << (threads.bit_length() - 1) if is_deterministic else threads
        torch.set_num_threads(threads)
    device = device if pipeline.device == "auto" else pipeline.device
    options = LoadOptions(device, micro_batch_tokens, processes, offload_parent)
    # Guards first: they are small, and a missing one shows before a large model is read.
    guards = {name: _load_guard(pipeline, name, options) for name in guard_models.pipeline_names(pipeline)}
    runtime = _load_model(pipeline, options)
    models = [runtime, *guards.values()]
    shared = [each.shared_sizes for each in models]
    counted_twice = sum(sum(sizes.values()) for sizes in shared) - sum(ChainMap(*shared).values())
    return replace(runtime, guards=guards, weight_bytes=sum(each.weight_bytes for each in models) - counted_twice)


def _load_guard(pipeline: Pipeline, name: str, options: LoadOptions) -> Runtime:
    """Load a guard's model beside the pipeline's.

    Raises only LoadFailed: whatever is wrong with a guard can be mended, and says nothing about the pipeline's model.
    """
    try:
        entry = guard_models.guard_pipeline(pipeline, name)
        runtime = _load_model(entry.model_copy(update={"device": options.device}), options, role="guard")
        guard_models.check_labels(pipeline, name, runtime.model.config)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        problem = load_errors.classify(error, name)
        raise LoadFailed(f"{guard_models.describe(pipeline, name)}: {problem}") from error
    return runtime


def _load_model(pipeline: Pipeline, options: LoadOptions, role: Role = "pipeline") -> Runtime:
    used_snapshots: list[Snapshot] = []
    try:
        target = weights.resolve_device(options.device)
        memory_share.limit_memory(target, options.processes)
        used_snapshots.append(snapshots.fetch_model_unchecked(pipeline))
        if (adapter_files := snapshots.fetch_adapter(pipeline)) is not None:
            used_snapshots.append(adapter_files)
        return _assemble(pipeline, used_snapshots, target, options, role)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        revision = _batch_revision(pipeline, used_snapshots)
        problem = load_errors.classify(error, pipeline.model, revision)
        if isinstance(problem, ModelError):
            problem.revision = revision or problem.revision  # of a batch, which has an adapter's too
            problem = _changed_files_error(used_snapshots) or _damaged_files_error(pipeline, problem) or problem
        if problem is error:
            raise  # with its cause
        raise problem from error


def _batch_revision(pipeline: Pipeline, used_snapshots: Sequence[Snapshot]) -> str | None:
    """Return the revision that a batch of this pipeline records; None if it is not known yet."""
    if len(used_snapshots) < (1 if pipeline.adapter is None else 2):
        return None
    adapter_revision = None if pipeline.adapter is None else used_snapshots[1].revision
    return join_revisions(used_snapshots[0].revision, adapter_revision)


def _changed_files_error(used_snapshots: Sequence[Snapshot]) -> LoadFailed | None:
    """Return an error if files changed during the load, because the mixture may match no revision."""
    changed = next((snapshot.name for snapshot in used_snapshots if snapshot.has_changed), None)
    return LoadFailed(f"{changed} changed while it was loaded; it will be loaded again") if changed else None


def _damaged_files_error(pipeline: Pipeline, error: ModelError) -> LoadFailed | None:
    damage = integrity.describe_damage(pipeline, error.revision) if type(error) is ModelError else None
    return LoadFailed(damage) if damage else None


def _assemble(
    pipeline: Pipeline, used_snapshots: list[Snapshot], device: torch.device, options: LoadOptions, role: Role
) -> Runtime:
    """Build the runtime from the model's files, and add the files of a separate tokenizer to `used_snapshots`."""
    started = time.monotonic()
    (files, *adapter_snapshots), micro_batch_tokens = used_snapshots, options.micro_batch_tokens
    lora_files = AdapterFiles.read(adapter_snapshots[0]) if adapter_snapshots else None
    snapshots.check(files, pipeline)
    tokenizer_files = snapshots.fetch_tokenizer(pipeline, files)
    if tokenizer_files is not files:
        used_snapshots.append(tokenizer_files)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    adapter_class = task_adapter.find_class(pipeline)
    model = weights.load(pipeline, adapter_class.auto_model_class, files, device, lora_files, options.offload_parent)
    tokenizer = task_adapter.load_tokenizer(adapter_class, tokenizer_files, model)
    default_length = task_adapter.complete(adapter_class, model, tokenizer, files)
    max_length = token_budgets.max_length(pipeline, model, tokenizer, default_length)
    limits = task_adapter.limits_for(pipeline, max_length, is_guard=role == "guard")
    adapter = adapter_class(model, tokenizer, limits, pipeline.task)
    is_generator = not isinstance(adapter, LaunchingAdapter)
    runtime = Runtime(
        adapter,
        loaded_version.describe(pipeline, files, tokenizer_files, model, lora_files),
        micro_batch_tokens
        or pipeline.tokens_per_batch
        or token_budgets.initial_tokens(model.config, device.type, is_generator=is_generator),
        model,
        device,
        torch.get_num_threads(),
        _weight_bytes(model),
        tunable=not (micro_batch_tokens or pipeline.tokens_per_batch or pipeline.deterministic),
        max_micro_batch_tokens=token_budgets.max_tokens(model.config, device.type),
        parameters=pipeline.parameters,
        is_spread=spread_weights.is_spread(model),
    )
    if changed := _changed_files_error(used_snapshots):
        raise changed
    load_report.log_loaded(pipeline.name, runtime, limits, started, role)
    load_report.warn_of_other_base(pipeline, lora_files)
    load_report.warn_of_slow_dtype(pipeline, runtime)
    return runtime


def _weight_bytes(model: Any) -> int:
    sizes = (torchao_linear.size_bytes(tensor) for tensor in (*model.parameters(), *model.buffers()))
    return sum(sizes) + sum(int8_linear.packed_sizes(model).values())
