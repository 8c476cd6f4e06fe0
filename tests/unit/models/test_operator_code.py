"""The version of the operator's code is that of the files, or in a worker that of what it imported."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import operator_code
from models.errors import SettingsError

PACKAGE = "package_of_this_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(operator_code, "_imported_versions", {})
    monkeypatch.setattr(operator_code, "_keeps_versions", False)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / PACKAGE
    folder.mkdir()
    for name in ("__init__", "first", "second"):
        (folder / f"{name}.py").write_text("VALUE = 1\n")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def version() -> str | None:
    return operator_code.code_version(f"{PACKAGE}.first:VALUE")


def test_a_submitter_has_the_version_of_the_files(package: Path) -> None:
    operator_code.load_object(f"{PACKAGE}.first:VALUE")
    before = version()

    (package / "first.py").write_text("VALUE = 2\n")

    assert version() != before


def test_a_worker_keeps_the_version_of_what_it_imported(package: Path) -> None:
    operator_code.keep_versions()
    before = version()
    operator_code.load_object(f"{PACKAGE}.first:VALUE")

    (package / "first.py").write_text("VALUE = 2\n")

    assert operator_code.load_object(f"{PACKAGE}.first:VALUE") == 1
    assert version() == before


def test_a_worker_does_not_mix_two_versions(package: Path) -> None:
    operator_code.keep_versions()
    operator_code.load_object(f"{PACKAGE}.first:VALUE")

    (package / "second.py").write_text("VALUE = 2\n")

    with pytest.raises(SettingsError, match=f"the code of {PACKAGE} changed after this process had imported a part"):
        operator_code.load_object(f"{PACKAGE}.second:VALUE")


def test_a_module_that_can_be_imported_once_it_is_mended_has_the_new_version(package: Path) -> None:
    operator_code.keep_versions()
    (package / "__init__.py").write_text("raise ValueError")
    with pytest.raises(SettingsError, match="can't be imported"):
        operator_code.load_object(f"{PACKAGE}.first:VALUE")

    (package / "__init__.py").write_text("# It is mended, and of another size.\n")

    assert operator_code.load_object(f"{PACKAGE}.first:VALUE") == 1
    assert operator_code._imported_versions[PACKAGE] == version() == operator_code._read_version(PACKAGE)


@pytest.mark.parametrize(
    ("direct_url", "is_editable"),
    [
        ('{"url": "file:///x", "dir_info": {"editable": true}}', True),
        ('{"url":"file:///x","dir_info":{"editable":true}}', True),  # as uv writes it
        ('{"url": "file:///x", "dir_info": {}}', False),
        ('{"url": "https://x", "archive_info": {}}', False),
        ("[", False),
        (None, False),
    ],
)
def test_an_editable_package_has_the_hash_of_its_files(
    package: Path, direct_url: str | None, *, is_editable: bool
) -> None:
    info = package.parent / f"{PACKAGE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{PACKAGE}\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(direct_url)
    operator_code._distributions.cache_clear()

    found = version()

    assert found is not None
    assert found.startswith(f"{PACKAGE} sha256:") == is_editable
