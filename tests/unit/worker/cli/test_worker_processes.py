"""The worker processes that a machine with GPUs gets, with a stand-in for its driver."""

import os
from pathlib import Path

import pytest

from models.errors import UsageError
from models.pipelines.pipeline import SAMPLES_FOLDER
from models.settings import Settings
from worker.cli import worker_processes
from worker.cli.worker_processes import WorkerProcesses
from worker.supervisor import devices as devices_module
from worker.supervisor.process_count import LoadEstimate

ENTRY = """
[pipelines.second]
task = "ner"
model = "bundled:ner"
device = "cuda:1"
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen cores, and two cards of 80 GB."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "GPU-1, 81920, Disabled"; echo "GPU-2, 81920, Disabled"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    for name in ("CUDA_VISIBLE_DEVICES", "RAYON_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "batchmill.toml").write_text(ENTRY)
    monkeypatch.chdir(tmp_path)


def plan(*pipelines: str, devices: str | None = None) -> WorkerProcesses:
    return worker_processes.plan_processes(Settings.load(devices=devices), pipelines)


def test_auto_runs_several_processes_of_an_encoder_on_each_gpu() -> None:
    processes = plan("sample-ner")

    assert processes.devices == ("cuda:0#1", "cuda:0#2", "cuda:1#1", "cuda:1#2")
    assert processes.reason == "there are 8 cores for each GPU"
    spec = processes.specs[-1]
    assert (spec.name, spec.arguments) == ("worker-cuda:1#2", ("sample-ner", "cuda:1#2/2@1", "4"))
    assert (spec.environment["CUDA_VISIBLE_DEVICES"], spec.environment["RAYON_NUM_THREADS"]) == ("1", "4")


def test_auto_runs_one_process_where_a_pipeline_generates() -> None:
    processes = plan("sample-ner", "sample-text-generation")

    assert processes.devices == ("cuda:0", "cuda:1")
    assert processes.reason.startswith("sample-text-generation generates text")


def test_samples_beside_another_pipeline_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "batchmill.toml").write_text(f'[pipelines.own]\ntask = "ner"\nmodel = "{SAMPLES_FOLDER / "ner"}"\n')

    assert len(plan("own", "sample-text-generation").devices) == 4
    assert len(plan("own", "summarization").devices) == 2


def test_the_setting_says_how_many_as_the_flag_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DEVICES", "cuda:0*2")
    assert plan("sample-ner").devices == ("cuda:0#1", "cuda:0#2")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2,GPU-1")
    processes = plan("sample-ner", devices="cuda:1,cpu")
    assert processes.devices == ("cuda:1@GPU-1", "cpu")
    assert [spec.name for spec in processes.specs] == ["worker-cuda:1@GPU-1", "worker-cpu"]


def test_an_entry_that_names_a_gpu_goes_to_its_processes() -> None:
    processes = plan("sample-ner", "second", devices="cuda:0,cuda:1")

    assert [spec.arguments[0] for spec in processes.specs] == ["sample-ner", "sample-ner,second"]
    with pytest.raises(UsageError, match="second names device cuda:1, on which no process runs"):
        plan("sample-ner", "second", devices="cuda:0")


def test_weights_that_do_not_fit_into_a_share_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = LoadEstimate("sample-ner", False, 30 * 10**9)
    monkeypatch.setattr(devices_module, "estimate_load", lambda _pipeline: estimate)

    assert plan("sample-ner", devices="cuda:0*2,cuda:1*3").warnings == (
        "the weights of sample-ner, 30.0 GB, don't fit into a share of cuda:1, which 3 processes have; run at most 2",
    )
    assert plan("sample-ner").warnings == ()


@pytest.mark.parametrize(("device", "is_warned"), [("cpu", False), ("mps", False), ("cuda:1", False), ("cuda", True)])
def test_weights_that_never_come_to_a_gpu_are_not_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, is_warned: bool
) -> None:
    (tmp_path / "batchmill.toml").write_text(ENTRY.replace("cuda:1", device))
    sizes = {"second": 60 * 10**9, "sample-ner": 10**6}
    monkeypatch.setattr(devices_module, "estimate_load", lambda each: LoadEstimate(each.name, False, sizes[each.name]))

    assert bool(plan("second", "sample-ner", devices="cuda:0*2,cuda:1,cpu*2").warnings) is is_warned


def test_processes_without_a_pipeline_leave_their_cores_to_the_others() -> None:
    processes = plan("second", devices="cuda:0,cuda:1")

    assert [spec.arguments for spec in processes.specs] == [("second", "cuda:1@1", "16")]


class TestDeviceMap:
    """A pipeline that is spread over the GPUs of its process."""

    @pytest.fixture(autouse=True)
    def entry(self, machine: None, tmp_path: Path) -> None:
        """A pipeline with a device map, beside a sample."""
        entry = '\n[pipelines.large]\ntask = "ner"\nmodel = "bundled:ner"\ndevice_map = "auto"\n'
        (tmp_path / "batchmill.toml").write_text(ENTRY + entry)

    def test_auto_is_one_process_that_sees_all_gpus(self) -> None:
        processes = plan("large", "sample-ner")

        assert processes.devices == ("auto",)
        assert processes.reason == "large is spread over all GPUs of one process"
        [spec] = processes.specs
        assert "CUDA_VISIBLE_DEVICES" not in spec.environment

    def test_one_process_for_each_gpu_spreads_over_its_own(self) -> None:
        assert plan("large", devices="cuda:0,cuda:1").devices == ("cuda:0", "cuda:1")

    @pytest.mark.parametrize("devices", ["cuda:0*2", "auto*2", "cpu*2", "auto,cuda:1"])
    def test_processes_that_would_share_a_device_are_refused(self, devices: str) -> None:
        with pytest.raises(UsageError, match="large has a device_map, so a process needs its devices alone; start"):
            plan("large", devices=devices)

    def test_other_pipelines_share_devices_as_before(self) -> None:
        assert len(plan("sample-ner", devices="cuda:0*2").devices) == 2


def test_each_process_has_a_port_for_metrics_after_that_of_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "BATCHMILL_METRICS_PORT" not in plan("sample-ner").specs[0].environment
    monkeypatch.setenv("BATCHMILL_METRICS_PORT", "9464")

    ports = [spec.environment["BATCHMILL_METRICS_PORT"] for spec in plan("sample-ner").specs]

    assert ports == ["9465", "9466", "9467", "9468"]
