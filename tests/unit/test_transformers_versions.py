"""The versions of transformers that `make test-versions` tries."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests import transformers_versions


def test_the_oldest_the_pinned_and_the_newest_version_are_tried() -> None:
    oldest, pinned, newest = transformers_versions.default_requirements()

    [bound] = [part for part in Requirement(newest).specifier if part.operator == ">="]
    assert Requirement(oldest) == Requirement(f"transformers=={bound.version}")
    [pin] = Requirement(pinned).specifier
    assert Version(bound.version) <= Version(pin.version)
    assert pin.version in Requirement(newest).specifier


def test_a_newer_version_replaces_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter(["5.23.0", "5.23.1"])

    def install(command: list[str], **_options: object) -> None:
        folder = Path(command[command.index("--target") + 1])
        (folder / "transformers").mkdir(parents=True, exist_ok=True)
        (folder / f"transformers-{next(versions)}.dist-info").mkdir()

    monkeypatch.setattr(transformers_versions, "VERSIONS_FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", install)

    found = [
        transformers_versions.installed(transformers_versions.install("transformers>=5.23"), "transformers")
        for _ in range(2)
    ]

    assert found == ["5.23.0", "5.23.1"]


def test_torch_is_shared_and_stays_as_pinned() -> None:
    lines = (transformers_versions.ROOT / "constraints.txt").read_text().splitlines()
    unpinned = [line.partition("==")[0] for line in lines if line.startswith(transformers_versions.UNPINNED)]

    assert sorted(unpinned) == ["hf-xet", "huggingface_hub", "tokenizers", "transformers"]


def test_pyproject_names_tokenizers_as_old_as_the_tests_accept() -> None:
    extras = tomllib.loads((transformers_versions.ROOT / "pyproject.toml").read_text())["project"]
    [line] = [line for line in extras["optional-dependencies"]["worker"] if re.match("tokenizers", line)]

    # 0.23.2 cuts long texts and pairs at other tokens.
    assert "0.23.2" not in Requirement(line).specifier
