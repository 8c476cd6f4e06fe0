"""Device names: what an operator may ask for, and what is refused."""

import pytest

from models.errors import SettingsError
from models.hardware.device_names import DeviceRequest, parse_devices
from models.settings import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", [DeviceRequest("auto")]),
        ("cuda:0*4", [DeviceRequest("cuda:0", 4)]),
        (" cuda:0 * 2 ,cpu,", [DeviceRequest("cuda:0", 2), DeviceRequest("cpu")]),
        ("cpu*64", [DeviceRequest("cpu", 64)]),
    ],
)
def test_a_list_of_devices(text: str, expected: list[DeviceRequest]) -> None:
    assert parse_devices(text) == expected


@pytest.mark.parametrize("text", ["gpu", "CPU", "cuda:x", "cuda:", "cpu;mps", "*4", "cuda:0x4"])
def test_a_name_that_torch_does_not_know(text: str) -> None:
    with pytest.raises(ValueError, match="is no device; write cuda:0,cuda:1 or cuda:0\\*4 or cpu"):
        parse_devices(f"cpu,{text}")


@pytest.mark.parametrize("count", ["0", "65", "99999", "-1", "1.5", "", "four", "²"])
def test_a_number_of_processes_that_makes_no_sense(count: str) -> None:
    with pytest.raises(ValueError, match="asks for no number of processes from 1 to 64; write cuda:1\\*4"):
        parse_devices(f"cuda:1*{count}")


def test_no_device_at_all() -> None:
    with pytest.raises(ValueError, match="it names no device"):
        parse_devices(" , ")


def test_the_setting_is_checked_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DEVICES", "cuda:0*3")
    assert Settings.load().devices == "cuda:0*3"

    monkeypatch.setenv("BATCHMILL_DEVICES", "gpu")
    with pytest.raises(SettingsError, match="setting 'devices': 'gpu' is no device"):
        Settings.load()
