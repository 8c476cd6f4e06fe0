"""Runs the tests of all tasks against several versions of transformers: `make test-versions`.

Each version is installed into a separate folder under `.versions`, together with its dependencies except torch, and
put before this environment's packages. By default these are the lower bound in pyproject.toml, the pin in
constraints.txt, and the newest version that pip finds within the bounds. The status is 0 if all pass.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS_FOLDER = ROOT / ".versions"
PACKAGE = "transformers"
# What transformers itself chooses; everything else stays as pinned.
UNPINNED = ("transformers==", "tokenizers==", "huggingface_hub==", "hf-xet==")
TESTS = ("tests/conformance", "tests/unit/worker/adapters")
SHOWN_LINES = 15


def requirement() -> str:
    """Return pyproject's requirement of transformers."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found: list[str] = [line for line in extras["worker"] if line.startswith(PACKAGE)]
    return found[0]


def default_requirements() -> list[str]:
    """Return pip's requirements for the lower bound, the pin, and the newest version within the bounds."""
    lower = re.search(r">=([\d.]+)", requirement())
    pin = re.search(rf"^{PACKAGE}==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert lower
    assert pin
    return [f"{PACKAGE}=={lower[1]}", f"{PACKAGE}=={pin[1]}", requirement()]


def install(wanted: str) -> Path:
    """Install a version with its dependencies into a separate folder; returns the folder."""
    folder = VERSIONS_FOLDER / re.sub(r"[^\w.]+", "-", wanted)
    if not (folder / PACKAGE).exists() or "==" not in wanted:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
            lines = (ROOT / "constraints.txt").read_text().splitlines()
            pins.write("\n".join(line for line in lines if not line.startswith(UNPINNED)))
            pins.flush()
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            shutil.rmtree(folder, ignore_errors=True)  # pip would keep what describes the older versions
            subprocess.run([*pip, "--target", str(folder), "-c", pins.name, wanted], check=True)
    return folder


def installed(folder: Path, name: str) -> str:
    """Return the version of a package in the folder."""
    [found] = folder.glob(f"{name}-*.dist-info")
    return found.name.removesuffix(".dist-info").rpartition("-")[2]


def run_tests(folder: Path, tests: list[str]) -> tuple[bool, str]:
    """Run the tests before this environment's packages; returns whether all passed, and pytest's last lines."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    # Warnings of another version are no failures.
    options = ["-q", "-p", "no:cacheprovider", "--override-ini=filterwarnings=", "--tb=line"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return ran.returncode == 0, "\n".join(ran.stdout.strip().splitlines()[-SHOWN_LINES:])


def main() -> int:
    """Test each version; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", help="versions such as 5.24.0, instead of those that pyproject implies")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), help="folders or files of tests")
    options = parser.parse_args()
    wanted = [f"{PACKAGE}=={version}" for version in options.versions] or default_requirements()
    rows: dict[str, str] = {}
    for one in wanted:
        folder = install(one)
        version = installed(folder, PACKAGE)
        if version in rows:
            continue
        started = time.monotonic()
        has_passed, tail = run_tests(folder, options.tests)
        tokenizers, hub = installed(folder, "tokenizers"), installed(folder, "huggingface_hub")
        seconds = time.monotonic() - started
        rows[version] = f"{'passes' if has_passed else 'FAILS'} with tokenizers {tokenizers} and huggingface_hub {hub}"
        sys.stdout.write(f"transformers {version} {rows[version]} ({seconds:.0f} s): {tail.splitlines()[-1]}\n")
        if not has_passed:
            sys.stdout.write(f"{tail}\n")
        sys.stdout.flush()
    return 0 if all(row.startswith("passes") for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
