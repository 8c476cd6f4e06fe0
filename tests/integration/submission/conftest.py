"""Fixtures of all tests of submissions."""

import pytest

from tests.factories.patience import CHUNKS, be_patient


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk end where it is full, however long its rows take."""
    be_patient(monkeypatch, CHUNKS)
