"""The GPUs that CUDA would show, by its variable, the driver's answer and the device files."""

from pathlib import Path

import pytest

from models.hardware import gpus
from models.hardware.gpus import Card, Gpu

GIGABYTE = 1 << 30
CARDS = [Card("GPU-aaaa-1", 80 * GIGABYTE), Card("GPU-aabb-2", None), Card("GPU-cc-3", 40 * GIGABYTE)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty /dev and no programs, in this folder."""
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(gpus, "DEVICE_FOLDER", tmp_path / "dev")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install_driver(machine: Path, script: str) -> None:
    program = machine / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [Gpu("0", 80 * GIGABYTE), Gpu("1"), Gpu("2", 40 * GIGABYTE)]),
        ("2,0", [Gpu("2", 40 * GIGABYTE), Gpu("0", 80 * GIGABYTE)]),
        ("GPU-cc-3, GPU-aaaa", [Gpu("GPU-cc-3", 40 * GIGABYTE), Gpu("GPU-aaaa", 80 * GIGABYTE)]),
        ("MIG-7e4c/1/0,2", [Gpu("MIG-7e4c/1/0"), Gpu("2", 40 * GIGABYTE)]),
        ("", []),
        ("-1", []),
        ("0,-1,2", [Gpu("0", 80 * GIGABYTE)]),
        ("0,3,2", [Gpu("0", 80 * GIGABYTE)]),
        ("GPU-a", []),  # the beginning of two
        ("GPU-none,0", []),
        ("NoDevFiles", []),
        ("2,", [Gpu("2", 40 * GIGABYTE)]),
    ],
)
def test_the_variable_selects_as_cuda_does(visible: str | None, expected: list[Gpu]) -> None:
    assert gpus.select_visible(visible, CARDS) == expected


@pytest.mark.parametrize("entry", ["0", "GPU-8a1b", "MIG-7e4c"])
def test_the_variable_may_name_any_gpu_where_no_card_is_known(entry: str) -> None:
    assert gpus.select_visible(entry, []) == [Gpu(entry, is_found=False)]
    assert gpus.select_visible(entry, [Card()]) == [Gpu(entry)]


def test_the_driver_tells_the_memory_unless_the_card_is_in_parts(machine: Path) -> None:
    install_driver(machine, 'echo "GPU-1, 81920, Disabled"; echo "GPU-2, 81920, Enabled"; echo "GPU-3, [N/A], [N/A]"')

    assert gpus.list_gpus({}) == [Gpu("0", 80 * GIGABYTE), Gpu("1"), Gpu("2")]
    assert gpus.list_gpus({"CUDA_VISIBLE_DEVICES": "GPU-1"}) == [Gpu("GPU-1", 80 * GIGABYTE)]


@pytest.mark.parametrize("script", ["exit 9", "echo broken", "exec sleep 5"])
def test_device_files_are_counted_where_the_driver_does_not_answer(
    machine: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("PATH", f"{machine}:/usr/bin:/bin")
    monkeypatch.setattr(gpus, "QUERY_TIMEOUT_SECONDS", 0.3)
    install_driver(machine, script)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (machine / "dev" / name).touch()

    assert gpus.list_gpus({}) == [Gpu("0"), Gpu("1")]
    assert gpus.list_gpus({"CUDA_VISIBLE_DEVICES": "1,2"}) == [Gpu("1")]


def test_a_machine_without_a_gpu(machine: Path) -> None:
    assert gpus.list_gpus({}) == []
    assert gpus.list_gpus({"CUDA_VISIBLE_DEVICES": "3,-1"}) == [Gpu("3", is_found=False)]
