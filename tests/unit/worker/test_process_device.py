"""The device of a process: its name, its argument, and what it can load."""

import pytest

from models.errors import LoadFailed
from worker.process_device import ProcessDevice, row_name

SECOND = ProcessDevice("cuda:1#2", 4, "GPU-8a1b")


@pytest.mark.parametrize("device", [SECOND, ProcessDevice("cpu"), ProcessDevice("cpu#1", 2), ProcessDevice("cuda:0")])
def test_its_argument_says_all(device: ProcessDevice) -> None:
    assert ProcessDevice.parse(str(device)) == device


def test_its_argument_is_readable() -> None:
    assert (str(SECOND), str(ProcessDevice("cpu"))) == ("cuda:1#2/4@GPU-8a1b", "cpu")
    with pytest.raises(LoadFailed, match="'/2' is no device"):
        ProcessDevice.parse("/2")


@pytest.mark.parametrize(
    ("device", "label"),
    [
        (ProcessDevice("cuda:1", 1, "1"), "cuda:1"),
        (ProcessDevice("cuda:1#2", 2, "5"), "cuda:1@5#2"),
        (ProcessDevice("cuda:0", 1, "GPU-8a1b2c3d-4e5f-6789"), "cuda:0@GPU-8a1b2c3d"),
        (ProcessDevice("cuda:0#1", 2), "cuda:0#1"),
        (ProcessDevice("cpu#1", 2), "cpu#1"),
    ],
)
def test_its_label_names_the_gpu_where_its_number_is_another(device: ProcessDevice, label: str) -> None:
    assert device.label == label


def test_torch_numbers_the_gpus_that_the_process_sees() -> None:
    assert (SECOND.torch_name, ProcessDevice("cuda:1").torch_name) == ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("entry", "expected"), [("auto", "auto"), ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:0")]
)
def test_an_entry_s_device_is_found_by_the_name_that_torch_knows(entry: str, expected: str) -> None:
    assert SECOND.torch_name_for(entry) == expected
    assert ProcessDevice("cpu").torch_name_for(entry) == entry


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        ("cuda:1#2", "cuda:1", True),
        ("cuda:0", "cuda:1", False),
        ("cpu", "cuda:1", False),
        ("auto#1", "cuda:1", True),
        ("cpu", "cuda", True),
        ("cuda:0", "auto", True),
        ("cuda:0", "cpu", True),
    ],
)
@pytest.mark.parametrize("visible_gpu", [None, "5"])
def test_an_entry_of_a_gpu_is_for_the_processes_of_that_gpu(
    name: str, visible_gpu: str | None, entry: str, expected: bool
) -> None:
    assert ProcessDevice(name, 1, visible_gpu).can_serve(entry) is expected


def test_auto_has_every_gpu_of_a_process_that_sees_all() -> None:
    assert ProcessDevice("auto").with_device("cuda:0").torch_name_for("cuda:1") == "cuda:1"


def test_an_entry_of_another_gpu_is_refused() -> None:
    with pytest.raises(LoadFailed, match="its entry names device cuda:0, but this process has cuda:1 only"):
        SECOND.torch_name_for("cuda:0")


@pytest.mark.parametrize(
    ("name", "resolved", "expected"),
    [("auto", "cpu", "cpu"), ("auto#2", "mps", "mps#2"), ("cpu#1", "cpu", "cpu#1"), ("cuda:1#2", "cuda:0", "cuda:1#2")],
)
def test_auto_is_named_by_what_it_stands_for(name: str, resolved: str, expected: str) -> None:
    assert ProcessDevice(name, 2).with_device(resolved).name == expected


@pytest.mark.parametrize(
    ("name", "loaded_on", "expected"),
    [
        ("cuda:0#1", "NVIDIA H200", "cuda:0#1 NVIDIA H200"),
        ("cuda:0#1", "cpu", "cpu"),
        ("cpu#2", "cpu", "cpu#2"),
        ("cpu", "NVIDIA H200", "NVIDIA H200"),
    ],
)
def test_the_table_of_workers_names_process_and_device(name: str, loaded_on: str, expected: str) -> None:
    assert row_name(name, loaded_on) == expected
