"""Devices: the processes on each, what each of them sees, and the cores shared out."""

import os

import pytest

from models.errors import UsageError
from models.hardware.device_names import DeviceRequest, parse_devices
from models.hardware.gpus import Gpu
from models.pipelines.pipeline import Pipeline
from worker.process_device import ProcessDevice
from worker.supervisor import devices
from worker.supervisor.devices import DevicePlan
from worker.supervisor.process_count import ProcessCount

TWO_GPUS = [Gpu("3"), Gpu("GPU-8a1b")]


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores that this process may use, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


def plan(text: str, gpus: list[Gpu], processes: int = 1) -> DevicePlan:
    return devices.plan_devices(parse_devices(text), gpus, lambda _gpu: ProcessCount(processes, "why"))


def plan_names(text: str, gpus: list[Gpu], processes: int = 1) -> list[str]:
    return [device.name for device in plan(text, gpus, processes).devices]


class TestPlan:
    def test_is_as_asked(self) -> None:
        assert plan_names("cuda:0, cuda:1 ,cpu,", TWO_GPUS) == ["cuda:0", "cuda:1", "cpu"]

    @pytest.mark.parametrize("text", ["cpu,auto", "auto,cpu", "auto*2,cpu", "cpu*2,auto"])
    def test_has_distinct_names_where_auto_is_the_cpu(self, text: str) -> None:
        names = [device.with_device("cpu").name for device in plan(text, []).devices]

        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("text", ["cuda:0*3", "cuda:0,cuda:0,cuda:0", "cuda:0*2,cuda", "cuda * 3"])
    def test_tells_processes_of_one_device_apart(self, text: str) -> None:
        assert list(map(str, plan(text, TWO_GPUS).devices)) == ["cuda:0#1/3@3", "cuda:0#2/3@3", "cuda:0#3/3@3"]

    def test_gives_each_process_its_own_gpu_alone(self) -> None:
        first, second, cpu = plan("cuda:0,cuda:1,cpu", TWO_GPUS).devices

        assert (first.visible_gpu, second.visible_gpu, cpu.visible_gpu) == ("3", "GPU-8a1b", None)
        assert (first.torch_name, second.torch_name, cpu.torch_name) == ("cuda:0", "cuda:0", "cpu")

    def test_has_every_gpu_by_default(self) -> None:
        assert plan_names("auto", TWO_GPUS) == ["cuda:0", "cuda:1"]
        assert plan_names("auto*2,cpu", TWO_GPUS) == ["cuda:0#1", "cuda:0#2", "cuda:1#1", "cuda:1#2", "cpu"]

    def test_takes_the_number_and_its_reason_where_none_is_asked_for(self) -> None:
        chosen = plan("auto", TWO_GPUS, processes=2)

        assert [device.name for device in chosen.devices] == ["cuda:0#1", "cuda:0#2", "cuda:1#1", "cuda:1#2"]
        assert (chosen.reason, plan("cuda:0*2", TWO_GPUS).reason) == ("why", "")

    def test_leaves_auto_to_torch_where_no_gpu_is_found(self) -> None:
        assert plan_names("auto", []) == ["auto"]
        assert plan_names("auto*2", []) == ["auto#1", "auto#2"]

    def test_leaves_auto_to_torch_where_only_a_variable_speaks_of_gpus(self) -> None:
        said = [Gpu("3", is_found=False), Gpu("5", is_found=False)]

        assert [str(device) for device in plan("auto", said).devices] == ["auto"]
        assert [str(device) for device in plan("cuda:1,cuda", said).devices] == ["cuda:1@5", "cuda:0@3"]

    def test_lets_a_process_see_every_gpu_where_none_is_found(self) -> None:
        [device] = plan("cuda:1", []).devices

        assert (device.visible_gpu, device.torch_name) == (None, "cuda:1")

    def test_refuses_a_gpu_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="cuda:2 is not on this machine, which has 2 GPUs"):
            plan("cuda:2", TWO_GPUS)


class TestServing:
    def pipeline(self, name: str, device: str) -> Pipeline:
        return Pipeline(name=name, task="ner", model="a/b", device=device)

    def serve(self, text: str, *pipelines: Pipeline) -> dict[str, list[str]]:
        served = devices.serve_where_visible(plan(text, TWO_GPUS).devices, pipelines)
        return {device.name: names for device, names in served}

    def test_sends_an_entry_to_the_gpu_that_it_names(self) -> None:
        entries = [self.pipeline("any", "auto"), self.pipeline("second", "cuda:1"), self.pipeline("some", "cuda")]

        assert self.serve("cuda:0,cuda:1", *entries) == {"cuda:0": ["any", "some"], "cuda:1": ["any", "second", "some"]}

    def test_sends_no_entry_of_a_gpu_to_the_cpu(self) -> None:
        assert self.serve("cpu,cuda:1", self.pipeline("second", "cuda:1")) == {"cuda:1": ["second"]}
        with pytest.raises(UsageError, match="second names device cuda:1, on which no process runs"):
            self.serve("cpu", self.pipeline("second", "cuda:1"))

    def test_starts_no_process_without_a_pipeline(self) -> None:
        assert self.serve("cuda:0,cuda:1*2", self.pipeline("second", "cuda:1")) == {
            "cuda:1#1": ["second"],
            "cuda:1#2": ["second"],
        }

    def test_refuses_an_entry_whose_gpu_has_no_process(self) -> None:
        with pytest.raises(UsageError, match="second names device cuda:1, on which no process runs; add it to"):
            self.serve("cuda:0", self.pipeline("any", "auto"), self.pipeline("second", "cuda:1"))


class TestEnvironment:
    def test_shows_a_process_its_gpu_and_gives_it_a_share_of_the_cores(self) -> None:
        environment = devices.child_environment(ProcessDevice("cuda:1#2", 2, "5"), 3, {"CUDA_VISIBLE_DEVICES": "4,5"})

        assert environment == {
            "CUDA_VISIBLE_DEVICES": "5",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "RAYON_NUM_THREADS": "3",
            "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        }

    @pytest.mark.parametrize("variable", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
    def test_keeps_what_the_operator_has_chosen(self, variable: str) -> None:
        chosen = {variable: "x", "RAYON_NUM_THREADS": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}

        assert devices.child_environment(ProcessDevice("cpu"), 3, chosen) == {}


class TestThreadsEach:
    @pytest.mark.parametrize(("processes", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
    def test_share_the_cores_evenly(self, cores: None, processes: int, threads: int) -> None:
        assert devices.threads_per_process(processes) == threads

    def test_are_all_cores_without_a_device(self, cores: None) -> None:
        assert devices.threads_per_process(0) == 8

    def test_count_every_core_where_the_system_does_not_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)

        assert devices.threads_per_process(1) == 1


def test_requests_stay_as_they_were_written() -> None:
    assert parse_devices("cuda:0*4,cpu") == [DeviceRequest("cuda:0", 4), DeviceRequest("cpu")]
