"""What the tests beside the models share: tiny ones, made once for the session and copied to be changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.factories import tiny_models


@pytest.fixture(autouse=True)
def environment_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model takes this process off the Hub; the next test must not depend on that."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny model by its architecture; not to be written to."""
    base = tmp_path_factory.mktemp("models")

    def made(architecture: str) -> Path:
        folder = base / architecture
        if not folder.exists():
            getattr(tiny_models, architecture)(folder)
        return folder

    return made


@pytest.fixture
def distilbert(made: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny DistilBERT of the test's own, to be changed."""
    folder = tmp_path / "distilbert"
    shutil.copytree(made("distilbert"), folder)
    return folder
