"""Operator code: objects that batchmill.toml or an installed package names, such as tasks and logits processors.

Only the operator's configuration names such objects; nothing that a submitter sends is ever imported.
"""

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from models.errors import SettingsError
from models.settings import config_file

REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
HASH_DIGITS = 12

# A module that has or calls one of these may have names that its text does not show.
DYNAMIC_NAMES = frozenset({"*", "__getattr__", "globals", "vars", "setattr", "exec"})

_imported_versions: dict[str, str | None] = {}  # by top-level module, from just before its import
_keeps_versions = False


def is_reference(name: str) -> bool:
    """Whether a name has the form of a reference: `package.module:object`."""
    return REFERENCE.fullmatch(name) is not None


def keep_versions() -> None:
    """Let `code_version` give the version of imported code as it was when this process imported it.

    A worker needs this, because it records what computed its results, and files may change while it runs. A submitter
    asks which results are those of the code that is here now.
    """
    global _keeps_versions
    _keeps_versions = True


def load_object(reference: str) -> Any:
    """Import the object that a reference names, from an installed package or a module beside batchmill.toml.

    Raises SettingsError that says what is wrong.
    """
    if not is_reference(reference):
        raise SettingsError(f"{reference[:80]!r} names no object; write it as package.module:object")
    module_name, _, path = reference.partition(":")
    _keep_version(module_name)
    try:
        with _modules_beside_config():
            value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"there is no module {error.name!r} here for {reference}; install its package, or put it beside "
            "batchmill.toml"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise SettingsError(f"{module_name} can't be imported: {type(error).__name__}: {str(error)[:200]}") from error
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise SettingsError(f"{module_name} has no {path}; correct the reference {reference}") from None
    return value


def code_version(reference: str) -> str | None:
    """The version of the code behind a reference: `my-package 1.2.0`, or a hash of its files. None = it is not here.

    Imports nothing. A package that is installed in editable mode, or a module or package beside batchmill.toml, has the
    hash of its Python files. In a process that keeps versions, imported code has that of its import.
    """
    top_name = _top_name(reference)
    if top_name in sys.modules and top_name in _imported_versions:
        return _imported_versions[top_name]
    return _read_version(top_name)


def _keep_version(module_name: str) -> None:
    """Note the version of code that is about to be imported.

    Raises SettingsError if other modules of its package were imported before it changed.
    """
    top_name = _top_name(module_name)
    if not _keeps_versions or module_name in sys.modules:
        return
    version = _read_version(top_name)
    if top_name not in sys.modules:
        _imported_versions[top_name] = version
    elif _imported_versions.setdefault(top_name, version) != version:
        raise SettingsError(f"the code of {top_name} changed after this process had imported a part; restart it")


def _top_name(reference: str) -> str:
    return reference.partition(":")[0].partition(".")[0]


def _read_version(top_name: str) -> str | None:
    for distribution in _distributions(top_name, tuple(sys.path)):
        if not _is_editable(distribution):
            return f"{distribution} {metadata.version(distribution)}"
    files = _source_files(top_name)
    if files is None:
        return None
    if not files:
        return top_name
    digest = hashlib.sha256()
    for name, file in files:
        content = file.read_bytes()
        digest.update(f"{name} {len(content)} ".encode() + content)
    return f"{top_name} sha256:{digest.hexdigest()[:HASH_DIGITS]}"


def find_problem(reference: str) -> str | None:
    """Why the object that a reference names can't be imported, as far as its file shows; None = nothing shows.

    Imports nothing, so it does not find what only happens when the module runs.
    """
    module_name, _, path = reference.partition(":")
    try:
        file = _module_file(module_name)
    except (ImportError, ValueError):
        return None  # only its package's import hook finds it
    if file is None:
        return f"there is no module {module_name}"
    if file.suffix != ".py":
        return None
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"{file.name}{place} can't be read as Python"
    names, name = _top_names(tree), path.partition(".")[0]
    return None if name in names or names & DYNAMIC_NAMES else f"{module_name} has no {name}"


def _module_file(module_name: str) -> Path | None:
    """The file of a module that is here; a module of another kind, such as a compiled one, has one too."""
    top_name, *rest = module_name.split(".")
    with _modules_beside_config():
        spec = importlib.util.find_spec(top_name)
        for depth, _ in enumerate(rest, 2):
            if spec is None or spec.submodule_search_locations is None:
                return None
            name = ".".join((top_name, *rest)[:depth])
            spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _top_names(tree: ast.Module) -> set[str]:
    """The names that a module's own statements may bind, also within `if`, `try`, `with` and loops."""
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue  # names within are its own
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []  # its import binds a submodule
            bound = [alias.asname or alias.name for alias in node.names]
            names.update(part for name in modules + bound for part in name.split("."))
        elif isinstance(node, ast.Name) and (isinstance(node.ctx, ast.Store) or node.id in DYNAMIC_NAMES):
            names.add(node.id)
        waiting.extend(ast.iter_child_nodes(node))
    return names


@lru_cache(maxsize=64)
def _distributions(top_name: str, _path: tuple[str, ...]) -> tuple[str, ...]:
    """The installed packages with this module; the import path is part of the key, as it decides which there are."""
    return tuple(metadata.packages_distributions().get(top_name, ()))


def _source_files(top_name: str) -> list[tuple[str, Path]] | None:
    """The Python files of a module or package with their names in it, in order; None if it is not here."""
    try:
        with _modules_beside_config():
            spec = importlib.util.find_spec(top_name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return [] if spec.origin is None else [(top_name, Path(spec.origin))]
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    files = [(str(file.relative_to(folder)), file) for folder in folders for file in folder.rglob("*.py")]
    return sorted(files)


def _is_editable(distribution: str) -> bool:
    """Whether it runs from its source folder, by the file of PEP 610, whose spaces differ between installers."""
    try:
        document = json.loads(metadata.distribution(distribution).read_text("direct_url.json") or "null")
        return bool(document["dir_info"]["editable"])
    except (ValueError, LookupError, TypeError):
        return False


@contextmanager
def _modules_beside_config() -> Iterator[None]:
    """Let modules in the folder of batchmill.toml be imported; they come last, so that they hide no installed one."""
    file = config_file()
    folder = None if file is None else str(file.absolute().parent)
    if folder is None or folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
