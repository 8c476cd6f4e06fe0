"""Devices are planned without torch: one process or several for each, and an equal share of the CPU cores."""

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.errors import UsageError
from models.hardware.device_names import DeviceRequest
from models.hardware.gpus import VISIBLE_DEVICES, Gpu
from models.pipelines import precision
from models.pipelines.checkpoint import Checkpoint
from models.pipelines.model_files import ModelFiles
from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline
from models.tasks.generation.decoding import DecodingParameters
from worker.process_device import SHARED_MEMORY_FRACTION, ProcessDevice
from worker.supervisor.process_count import LoadEstimate, ProcessCount, choose_process_count

# torch reads the first and, for older programs, the second. Micro-batches of ever-changing shapes fragment segments of
# fixed size; see "Optimizing memory usage" in torch's notes on CUDA.
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
ALLOCATOR_OPTIONS = "expandable_segments:True"


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """The processes to start, and why there are so many on each GPU: empty if the operator gave the number."""

    devices: tuple[ProcessDevice, ...]
    reason: str = ""


def plan_devices(
    requests: Sequence[DeviceRequest],
    gpus: Sequence[Gpu],
    count_for: Callable[[Gpu], ProcessCount],
    spread: str | None = None,
) -> DevicePlan:
    """Return one device for each process. Pure.

    gpus: the visible ones; empty also where they can't be found, and then the processes see all. Under `auto`, torch
        decides in the process whether to use GPUs that only a variable speaks of.
    count_for: the number of processes on a GPU for which none is given.
    spread: a pipeline whose weights are spread over all GPUs of its process, so that `auto` is one process.

    Raises UsageError for a GPU that is not there.
    """
    names: list[str] = []
    reasons: dict[str, str] = {}
    for request in requests:
        if request.device != "auto" or not any(gpu.is_found for gpu in gpus):
            name = "cuda:0" if request.device == "cuda" else request.device
            names += [name] * (request.processes or 1)
            continue
        if spread is not None:
            names += ["auto"] * (request.processes or 1)
            reasons[f"{spread} is spread over all GPUs of one process"] = ""
            continue
        for index, gpu in enumerate(gpus):
            choice = ProcessCount(request.processes, "") if request.processes else count_for(gpu)
            names += [f"cuda:{index}"] * choice.processes
            reasons |= {choice.reason: ""} if choice.reason else {}
    totals, seen = Counter(names), Counter[str]()
    devices: list[ProcessDevice] = []
    for name in names:
        seen[name] += 1
        # `auto` may turn out to be the device of any other process, so it is numbered among all of them.
        is_alone = len(names) == 1 if name == "auto" else totals[name] == 1
        number = len(devices) + 1 if name == "auto" else seen[name]
        unique = name if is_alone else f"{name}#{number}"
        devices.append(ProcessDevice(unique, totals[name], _visible_gpu(name, gpus)))
    return DevicePlan(tuple(devices), "; ".join(reasons))


def process_count_for(gpu: Gpu, gpu_count: int, pipelines: Sequence[Pipeline]) -> ProcessCount:
    """Return the number of processes for one of several GPUs, each of which may load any of the pipelines.

    Samples, which `up` serves beside all others, count only if there is nothing else: they have about a megabyte.
    """
    on_gpus = [pipeline for pipeline in pipelines if pipeline.device not in ("cpu", "mps")]
    others = [pipeline for pipeline in on_gpus if not pipeline.model.startswith(BUNDLED_PREFIX)]
    estimates = [estimate_load(pipeline) for pipeline in others or on_gpus]
    return choose_process_count(core_count() // max(1, gpu_count), gpu.memory_bytes, estimates)


def estimate_load(pipeline: Pipeline) -> LoadEstimate:
    """Estimate what loading a pipeline and its guards on a GPU takes, by the headers of their files."""
    sizes = [_weight_bytes(entry) for entry in (pipeline, *pipeline.guard_pipelines.values())]
    size = None if None in sizes else sum(filter(None, sizes))
    return LoadEstimate(pipeline.name, issubclass(pipeline.spec.parameters, DecodingParameters), size)


def _weight_bytes(pipeline: Pipeline) -> int | None:
    """Return the size of the weights on a GPU; None = the files are not here."""
    files = ModelFiles.find(pipeline)
    checkpoint = None if files is None else Checkpoint.read(files.folder)
    if files is None or checkpoint is None:
        return None
    dtype = precision.effective_dtype(pipeline, "cuda", files.config, checkpoint)
    return checkpoint.size_bytes(dtype or checkpoint.dtype)


def share_warnings(devices: Sequence[ProcessDevice], gpus: Sequence[Gpu], pipelines: Sequence[Pipeline]) -> list[str]:
    """Return a sentence for each GPU with more processes than copies of the largest weights that fit into it."""
    memory_bytes = {gpu.visible_name: gpu.memory_bytes for gpu in gpus}
    shared = {device.device: device for device in devices if device.processes > 1 and device.visible_gpu}
    on_gpus = [pipeline for pipeline in pipelines if pipeline.device not in ("cpu", "mps")] if shared else []
    estimates = [(pipeline, estimate_load(pipeline)) for pipeline in on_gpus]
    warnings = []
    for name, device in shared.items():
        weight_bytes, largest = max(
            ((estimate.weight_bytes or 0, each.name) for each, estimate in estimates if device.can_serve(each.device)),
            default=(0, ""),
        )
        usable_bytes = SHARED_MEMORY_FRACTION * (memory_bytes.get(device.visible_gpu or "") or math.inf)
        if weight_bytes * device.processes > usable_bytes:
            warnings.append(
                f"the weights of {largest}, {weight_bytes / 1e9:.1f} GB, don't fit into a share of {name}, which "
                f"{device.processes} processes have; run at most {max(1, int(usable_bytes // weight_bytes))}"
            )
    return warnings


def check_spread(devices: Sequence[ProcessDevice], pipelines: Sequence[Pipeline]) -> None:
    """Raise UsageError if two processes would spread their weights over the same device. Pure."""
    spread = next((pipeline.name for pipeline in pipelines if pipeline.is_spread), None)
    on_gpus = [device.device for device in devices if device.device.startswith(("auto", "cuda"))]
    shares_gpus = "auto" in on_gpus and len(on_gpus) > 1  # `auto` sees all of them
    if spread is not None and (shares_gpus or any(device.processes > 1 for device in devices)):
        raise UsageError(
            f"{spread} has a device_map, so a process needs its devices alone; start the workers with --devices auto, "
            "which is one process with all GPUs, or with one process for each device"
        )


def serve_where_visible(
    devices: Sequence[ProcessDevice], pipelines: Sequence[Pipeline]
) -> list[tuple[ProcessDevice, list[str]]]:
    """Pair each process with the pipelines that it can load; those with none are left out. Pure.

    An entry that names a GPU goes to the processes of that GPU. Raises UsageError if it has none.
    """
    for pipeline in pipelines:
        if not any(device.can_serve(pipeline.device) for device in devices):
            raise UsageError(
                f"{pipeline.name} names device {pipeline.device}, on which no process runs; add it to --devices, or "
                f'write device = "cuda" for any GPU in [pipelines.{pipeline.name}]'
            )
    served = [(device, [each.name for each in pipelines if device.can_serve(each.device)]) for device in devices]
    return [(device, names) for device, names in served if names]


def child_environment(device: ProcessDevice, threads: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a worker process gets beside the supervisor's own, whose choices are kept. Pure."""
    variables = {"RAYON_NUM_THREADS": str(threads), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # as nvidia-smi numbers GPUs
    if not any(name in environment for name in ALLOCATOR_VARIABLES):
        variables[ALLOCATOR_VARIABLES[0]] = ALLOCATOR_OPTIONS
    chosen = {name: value for name, value in variables.items() if name not in environment}
    return chosen | ({VISIBLE_DEVICES: device.visible_gpu} if device.visible_gpu else {})


def threads_per_process(process_count: int) -> int:
    """Return the compute threads for each process: an equal share of the available cores."""
    return max(1, core_count() // max(1, process_count))


def core_count() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible_gpu(name: str, gpus: Sequence[Gpu]) -> str | None:
    if not gpus or not name.startswith("cuda:"):
        return None
    index = int(name.removeprefix("cuda:"))
    if index >= len(gpus):
        count = "one GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
        raise UsageError(f"--devices: {name} is not on this machine, which has {count}; name another")
    return gpus[index].visible_name
