"""The version names the commit, so that results of two states of the code can be told apart."""

import shutil
import subprocess
from pathlib import Path

import pytest

from models import version


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "code.py").write_text("A = 1\n")
    return tmp_path


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_each_commit_has_another_one_and_changes_show(checkout: Path) -> None:
    builds = []
    git(checkout, "init")
    for number in (1, 2):
        (checkout / "models" / "code.py").write_text(f"A = {number}\n")
        git(checkout, "add", ".")
        git(checkout, "commit", "-m", "a step")
        git(checkout, "tag", f"v{number}")
        builds.append(version.describe_build(checkout))
    (checkout / "models" / "code.py").write_text("A = 3\n")

    assert [len(build) for build in builds] == [13, 13]
    assert builds[0] != builds[1]
    assert version.describe_build(checkout) == f"{builds[1]}.dirty"
    assert version.describe_build(checkout / "models").startswith("src"), "a folder inside a repository is no checkout"


@pytest.mark.parametrize("damage", ["no git", "a broken repository"])
def test_without_a_commit_the_source_is_hashed(checkout: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    (checkout / ".git").mkdir()
    if damage == "no git":
        monkeypatch.setenv("PATH", "")

    before = version.describe_build(checkout)
    same = version.describe_build(checkout)
    (checkout / "models" / "code.py").write_text("A = 2\n")
    after = version.describe_build(checkout)

    assert before == same != after
    assert before.startswith("src")


def test_a_build_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / version.BUILD_FILE).write_text("g0123456789ab\n")
    monkeypatch.setattr(version, "__file__", str(tmp_path / "version.py"))
    version.full_version.cache_clear()

    try:
        assert version.full_version() == f"{version.VERSION}+g0123456789ab"
    finally:
        version.full_version.cache_clear()
