"""The device of one worker process: its name among all processes, and what the process itself sees of it."""

import re
from dataclasses import dataclass, replace
from typing import Self

from models.errors import LoadFailed

MAX_GPU_NAME = 12  # the first digits of a UUID, which CUDA_VISIBLE_DEVICES and nvidia-smi take too

# Of the memory of a shared GPU. The rest is for what torch's allocator does not count: each process has a context of
# about half a gigabyte.
SHARED_MEMORY_FRACTION = 0.95

ARGUMENT = re.compile(r"(?P<name>[^/@]+)(/(?P<processes>\d+))?(@(?P<visible_gpu>.+))?")


@dataclass(frozen=True, slots=True)
class ProcessDevice:
    """A device, shared by some processes of one supervisor.

    name: unique among those processes: cuda:1, or cuda:1#2 for the second of several on it; see also `label`.
    processes: how many share it.
    visible_gpu: the only GPU that this process sees, as CUDA_VISIBLE_DEVICES names it; None = it sees all.
    """

    name: str
    processes: int = 1
    visible_gpu: str | None = None

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read the form that `str` writes, such as cuda:1#2/4@5; a device's plain name will do."""
        match = ARGUMENT.fullmatch(argument)
        if match is None:
            raise LoadFailed(f"{argument[:80]!r} is no device of a worker process")
        return cls(match["name"], int(match["processes"] or 1), match["visible_gpu"])

    def __str__(self) -> str:
        processes = f"/{self.processes}" if self.processes > 1 else ""
        return f"{self.name}{processes}" + (f"@{self.visible_gpu}" if self.visible_gpu else "")

    @property
    def device(self) -> str:
        """The device without the number of the process, such as cuda:1."""
        return self.name.partition("#")[0]

    @property
    def label(self) -> str:
        """The name for logs and tables: with the physical GPU, such as cuda:1@5#2, where the number is another."""
        device, sign, number = self.name.partition("#")
        is_other = self.visible_gpu not in (None, device.removeprefix("cuda:"))
        return f"{device}@{(self.visible_gpu or '')[:MAX_GPU_NAME]}{sign}{number}" if is_other else self.name

    @property
    def torch_name(self) -> str:
        """The name for torch in the process, which numbers the GPUs that it sees from 0."""
        return "cuda:0" if self.visible_gpu else self.device

    def with_device(self, resolved: str) -> Self:
        """Name the device that `auto` stands for."""
        return replace(self, name=self.name.replace("auto", resolved, 1)) if self.device == "auto" else self

    def can_serve(self, pipeline_device: str) -> bool:
        """Whether pipelines whose entry names this device are for this process.

        A GPU's number is for the processes of that GPU, or of `auto`, behind which it may be. All others can be had
        beside any device.
        """
        return not pipeline_device.startswith("cuda:") or self.device in (pipeline_device, "auto")

    def torch_name_for(self, pipeline_device: str) -> str:
        """Return the name for torch of the device that a pipeline's entry names. Raises LoadFailed."""
        if self.visible_gpu and not self.can_serve(pipeline_device):
            raise LoadFailed(
                f"its entry names device {pipeline_device}, but this process has {self.device} only; restart the "
                f"workers, which then load it where that device is, or write device = "
                '"cuda" for any GPU'
            )
        return self.torch_name if pipeline_device.startswith("cuda") and self.visible_gpu else pipeline_device


def row_name(label: str, loaded_on: str) -> str:
    """Return the name of a process's device for the table of workers. Pure.

    label: the label of the process's device.
    loaded_on: the model of the device on which the pipeline is loaded, such as NVIDIA H200, or cpu.
    """
    if loaded_on in ("cpu", "mps"):
        return label if label.partition("#")[0] == loaded_on else loaded_on
    return f"{label} {loaded_on}" if label.startswith("cuda") else loaded_on
