"""The worker processes that `up` and `worker` start: their devices, their pipelines and their environment."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from models.hardware import gpus
from models.hardware.device_names import parse_devices
from models.packages import import_name
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from worker.supervisor import devices
from worker.supervisor.supervisor import ChildSpec

PROCESS = import_name("worker.process")


@dataclass(frozen=True, slots=True)
class WorkerProcesses:
    """The processes to start, why there are so many, and what the operator should mend.

    devices: the label of each process's device.
    """

    specs: tuple[ChildSpec, ...]
    devices: tuple[str, ...]
    reason: str
    warnings: tuple[str, ...]


def plan_processes(settings: Settings, pipeline_names: Sequence[str]) -> WorkerProcesses:
    """Plan a process for each device of the settings, and several on a GPU where that pays. Raises UsageError."""
    catalogue = Catalogue.load(settings)
    pipelines = [catalogue[name] for name in pipeline_names]
    requests = parse_devices(settings.devices)
    visible = gpus.list_gpus() if any(request.device.startswith(("auto", "cuda")) for request in requests) else []
    count_for = partial(devices.process_count_for, gpu_count=len(visible), pipelines=pipelines)
    spread = next((pipeline.name for pipeline in pipelines if pipeline.spreads_over_gpus), None)
    plan = devices.plan_devices(requests, visible, count_for, spread)
    devices.check_spread(plan.devices, pipelines)
    served = devices.serve_where_visible(plan.devices, pipelines)
    threads = devices.threads_per_process(len(served))
    specs = [
        ChildSpec(
            f"worker-{device.label}",
            PROCESS,
            (",".join(names), str(device), str(threads)),
            reports_exit=True,
            environment={
                **devices.child_environment(device, threads, os.environ),
                **_metrics_environment(settings, number),
            },
        )
        for number, (device, names) in enumerate(served, start=1)
    ]
    warnings = devices.share_warnings(plan.devices, visible, pipelines)
    return WorkerProcesses(tuple(specs), tuple(device.label for device, _ in served), plan.reason, tuple(warnings))


def _metrics_environment(settings: Settings, number: int) -> dict[str, str]:
    """A port for each process; the supervisor has the first."""
    return {} if settings.metrics_port is None else {"BATCHMILL_METRICS_PORT": str(settings.metrics_port + number)}
