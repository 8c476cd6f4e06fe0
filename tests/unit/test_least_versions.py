"""No version with a known hole: not here, and not where pyproject.toml lets one be installed."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
TABLE = tomllib.loads((ROOT / "least-versions.toml").read_text("utf-8"))
EVERY = {name: entry for table in TABLE.values() for name, entry in table.items()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def bounds(name: str) -> dict[str, list[Version]]:
    """The lower bounds of a package, by the extra that has it."""
    found: dict[str, list[Version]] = {}
    for extra, lines in EXTRAS.items():
        for wanted in map(Requirement, lines):
            if canonicalize_name(wanted.name) == name:
                found[extra] = [Version(each.version) for each in wanted.specifier if each.operator == ">="]
    return found


def are_kept(entry: dict[str, Any], found: dict[str, list[Version]]) -> bool:
    return all(lowest and max(lowest) >= Version(entry["least"]) for lowest in found.values())


@pytest.mark.parametrize("name", EVERY)
def test_what_is_installed(name: str) -> None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        assert name in TABLE["elsewhere"], "the tests install all extras that have it"
        return
    assert Version(installed) >= Version(EVERY[name]["least"]), EVERY[name]["answers"]


@pytest.mark.parametrize("name", TABLE["direct"])
def test_what_may_be_installed(name: str) -> None:
    found = bounds(name)

    assert found
    assert are_kept(TABLE["direct"][name], found)


@pytest.mark.parametrize("name", TABLE["transitive"])
def test_what_comes_along(name: str) -> None:
    entry, found = TABLE["transitive"][name], bounds(name)

    assert entry["extra"] in found
    assert are_kept(entry, found)


def test_what_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = {canonicalize_name(name): pin for name, equals, pin in (line.partition("==") for line in lines) if equals}

    assert EVERY.keys() - TABLE["elsewhere"].keys() <= pins.keys()
    for name in EVERY.keys() & pins.keys():
        assert Version(pins[name]) >= Version(EVERY[name]["least"]), name


def test_each_names_what_it_answers() -> None:
    assert EVERY.keys() == {canonicalize_name(name) for name in EVERY}
    for entry in EVERY.values():
        assert entry["answers"]
        assert all(re.fullmatch(r"CVE-\d{4}-\d{4,}|GHSA(-\w{4}){3}", each) for each in entry["answers"])


def test_a_bound_that_is_too_low_is_noticed() -> None:
    assert not are_kept({"least": "3.2"}, {"": [Version("3.1")]})
    assert not are_kept({"least": "3.2"}, {"": [Version("3.2")], "dev": []})
