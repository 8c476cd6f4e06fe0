"""The memory that the C library keeps."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from producer.server.process import allocator


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The options that are set, in place of those of this process."""
    found: dict[int, int] = {}
    library = SimpleNamespace(mallopt=lambda name, value: found.update({name: value}) or 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    for name in allocator.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return found


def test_a_page_fits_into_what_is_kept(options: dict[int, int]) -> None:
    assert allocator.keep_freed_memory()
    assert options == {-1: 8 * 2**20, -3: 2 * 2**20}


@pytest.mark.parametrize("name", allocator.VARIABLES)
def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, options: dict[int, int], name: str) -> None:
    monkeypatch.setenv(name, "1")

    assert not allocator.keep_freed_memory()
    assert options == {}


@pytest.mark.usefixtures("options")
@pytest.mark.parametrize("library", [SimpleNamespace(), None], ids=["without mallopt", "none"])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    def load(_name: None) -> Any:
        if library is None:
            raise OSError
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)

    assert not allocator.keep_freed_memory()
