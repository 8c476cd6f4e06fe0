"""Devices: one process for each, and the cores shared out."""

import os

import pytest

from models.errors import UsageError
from worker.supervisor import devices


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores that this process may use, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


class TestSlots:
    def test_are_as_asked(self) -> None:
        assert devices.device_names("cuda:0, cuda:1 ,cpu,") == ["cuda:0", "cuda:1", "cpu"]

    def test_must_be_some(self) -> None:
        with pytest.raises(UsageError, match="names no device"):
            devices.device_names(" , ")

    @pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:x", "cuda:", "cpu;mps"])
    def test_must_have_names_that_torch_knows(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"'{name}' is no device; write cuda:0"):
            devices.device_names(f"cpu,{name}")

    @pytest.mark.parametrize(
        ("visible", "expected"),
        [
            ("0", ["cuda:0"]),
            ("3,5", ["cuda:0", "cuda:1"]),  # torch counts what is visible, from 0
            ("GPU-8a1b,GPU-9c2d", ["cuda:0", "cuda:1"]),
            ("", ["auto"]),
            ("-1", ["auto"]),
        ],
    )
    def test_are_every_visible_gpu_by_default(
        self, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

        assert devices.device_names("auto") == expected


class TestThreadsEach:
    @pytest.mark.parametrize(("processes", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
    def test_share_the_cores_evenly(self, cores: None, processes: int, threads: int) -> None:
        assert devices.threads_per_process(["cpu"] * processes) == threads

    def test_are_all_cores_without_a_device(self, cores: None) -> None:
        assert devices.threads_per_process([]) == 8

    def test_count_every_core_where_the_system_does_not_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)

        assert devices.threads_per_process(["cpu"]) == 1
