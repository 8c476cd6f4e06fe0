"""Builds the wheel: everything in it is one package, `batchmill`, so that nothing can shadow `models` or `worker`.

In a checkout, `models`, `producer` and `worker` are packages at the top level, and `batchmill.py` is a module beside
them. The wheel holds `batchmill/__init__.py` (that module) and `batchmill/models`, `batchmill/producer` and
`batchmill/worker`, whose imports of each other are rewritten. An editable installation is left as the checkout is.
"""

import ast
import os
import runpy
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "batchmill"
PACKAGES = ("models", "producer", "worker")
MAIN = f'"""`python -m {NAME}`: the console command."""\n\nfrom {NAME} import main\n\nmain()\n'


class BuildHook(BuildHookInterface):
    """Hatchling's hook for the target `wheel`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Lay the package out in `build/`, and have the wheel take it from there."""
        if version == "editable":
            return
        package = Path(self.directory).resolve() / "wheel" / NAME
        lay_out(Path(self.root), package)
        build_data["force_include"][str(package)] = NAME

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what `initialize` laid out."""
        shutil.rmtree(Path(self.directory).resolve() / "wheel", ignore_errors=True)


def lay_out(checkout: Path, package: Path) -> None:
    """Write the package of the wheel from a checkout; what is there already is replaced."""
    shutil.rmtree(package, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in PACKAGES:
        shutil.copytree(checkout / name, package / name, ignore=ignored)
    shutil.copytree(checkout / "migrations", package / "models" / "migrations", ignore=ignored)
    shutil.copyfile(checkout / f"{NAME}.py", package / "__init__.py")
    for path in package.rglob("*.py"):
        path.write_text(rewrite(path.read_text("utf-8")), "utf-8")
    (package / "__main__.py").write_text(MAIN, "utf-8")
    version = runpy.run_path(str(checkout / "models" / "version.py"))
    build = os.environ.get(version["COMMIT_VARIABLE"]) or version["describe_build"](checkout)
    (package / "models" / version["BUILD_FILE"]).write_text(f"{build}\n", "utf-8")


def rewrite(source: str) -> str:
    """The source of a module, importing our packages from inside `batchmill`.

    Raises ValueError at `import models` and its like, which would bind another name there.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            raise ValueError(f"line {node.lineno}: import our packages by `from … import …`")
        if isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
            line = lines[node.lineno - 1]
            start = len(line.encode()[: node.col_offset].decode()) + len("from ")
            lines[node.lineno - 1] = f"{line[:start]}{NAME}.{line[start:]}"
    return "".join(lines)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES
