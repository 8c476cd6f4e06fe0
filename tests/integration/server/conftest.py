"""Fixtures of all tests of the server."""

import pytest

from tests.factories.patience import be_patient


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test depend on how fast the server is."""
    be_patient(monkeypatch)
