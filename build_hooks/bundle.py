"""Puts the wheels that a machine without a network needs into a folder: `make bundle`.

The folder holds our own wheel and everything that it needs, at the versions of constraints.txt. The machine that runs
this needs a network; the other one installs with `pip install --no-index`.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = ("worker", "embedded")
# pip does not know that a system with a newer glibc takes wheels for an older one, so each is named.
MANYLINUX = (*(f"manylinux_2_{minor}" for minor in range(39, 4, -1)), "manylinux2014", "manylinux2010", "manylinux1")
MAX_DOWNLOADS = 5  # each follows the requirements of the one before
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def requirements(extras: Sequence[str], *, with_torch: bool) -> list[str]:
    """Return pyproject's requirements with these extras; an extra that needs torch itself brings it along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    unknown = [name for name in extras if name not in project["optional-dependencies"]]
    if unknown:
        raise SystemExit(
            f"unknown extras: {', '.join(unknown)}; choose from {', '.join(project['optional-dependencies'])}"
        )
    lines = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    return [line for line in lines if with_torch or not line.startswith("torch")]


def target_options(python_version: str | None, machine: str | None) -> list[str]:
    """Return pip's options for another Python or processor; none for those of this machine."""
    options = []
    if python_version:
        options += ["--implementation", "cp", "--python-version", python_version]
    if machine:
        options += [part for name in MANYLINUX for part in ("--platform", f"{name}_{machine}")]
    return options


def build_own_wheel(folder: Path) -> Path:
    """Build Batchmill's wheel, which fits every Python and platform, into the folder."""
    with tempfile.TemporaryDirectory() as built:
        command = [*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", built, str(ROOT)]
        subprocess.run(command, check=True)
        [wheel] = Path(built).glob("batchmill-*.whl")
        target = folder / wheel.name
        target.write_bytes(wheel.read_bytes())
    return target


def download(folder: Path, wanted: Sequence[str], options: Sequence[str]) -> None:
    """Download wheels of the requirements and of all that they need."""
    command = [*PIP, "download", "--quiet", "--only-binary=:all:", "--dest", str(folder), "-c", str(CONSTRAINTS)]
    subprocess.run([*command, *options, *wanted], check=True)


def marker_environment(python_version: str | None, machine: str | None) -> dict[str, str]:
    """Return the values of the other machine's markers; its Python may be the first of its minor version."""
    minor = ".".join((python_version or platform.python_version()).split(".")[:2])
    return {
        "python_version": minor,
        "python_full_version": f"{minor}.0",
        "platform_machine": machine or platform.machine(),
    }


def missing_requirements(folder: Path, wanted: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return what the wheels need in this environment and the folder does not have."""
    wheels = {parse_wheel_filename(path.name)[0]: path for path in folder.glob("*.whl")}
    missing: list[str] = []
    seen: set[str] = set()
    to_visit = [(Requirement(line), ("",)) for line in wanted]
    while to_visit:
        requirement, extras = to_visit.pop()
        if requirement.marker and not any(requirement.marker.evaluate({**environment, "extra": x}) for x in extras):
            continue
        requirement.marker = None
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        wheel = wheels.get(canonicalize_name(requirement.name))
        if wheel is None:
            missing.append(str(requirement))
        else:
            to_visit += [(needed, ("", *requirement.extras)) for needed in _wheel_requirements(wheel)]
    return missing


def _wheel_requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as files:
        [name] = [name for name in files.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(files.read(name).decode())
    return [Requirement(line) for line in headers.get_all("Requires-Dist", [])]


def download_all(
    folder: Path, wanted: Sequence[str], options: Sequence[str], environment: Mapping[str, str], left_out: str | None
) -> None:
    """Download the requirements, then those that only the other machine's markers ask for.

    pip evaluates markers for the Python that runs it. Raises SystemExit if wheels remain missing.
    """
    download(folder, wanted, options)
    for _ in range(MAX_DOWNLOADS):
        missing = [
            line for line in missing_requirements(folder, wanted, environment) if Requirement(line).name != left_out
        ]
        if not missing:
            return
        download(folder, missing, options)
    raise SystemExit(f"no wheels were found of {', '.join(missing)}")


def main() -> int:
    """Fill the folder and print the line that installs from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "dist" / "bundle", help="where the wheels go")
    parser.add_argument("--extras", default=",".join(EXTRAS), help="of pyproject.toml, separated by commas")
    parser.add_argument("--python-version", help="of the other machine, such as 3.12; unset: this Python's")
    parser.add_argument("--machine", help="processor of the other Linux machine: x86_64 or aarch64; unset: this one's")
    parser.add_argument("--without-torch", action="store_true", help="if the other machine has torch already")
    arguments = parser.parse_args()
    extras = arguments.extras.split(",")
    wanted = requirements(extras, with_torch=not arguments.without_torch)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for older in arguments.folder.glob("*.whl"):
        older.unlink()
    wheel = build_own_wheel(arguments.folder)
    download_all(
        arguments.folder,
        wanted,
        target_options(arguments.python_version, arguments.machine),
        marker_environment(arguments.python_version, arguments.machine),
        "torch" if arguments.without_torch else None,
    )
    wheels = list(arguments.folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 2**20
    sys.stdout.write(
        f"{len(wheels)} wheels, {size:,.0f} MiB, in {arguments.folder}; {wheel.name} is Batchmill itself.\n"
    )
    install = f"python3 -m pip install --no-index --find-links {arguments.folder.name}"
    sys.stdout.write(
        f"Copy the folder to the other machine and run there:\n  {install} 'batchmill[{arguments.extras}]'\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
