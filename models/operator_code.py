"""Operator code: objects that batchmill.toml or an installed package names, such as tasks and logits processors.

Only the operator's configuration names such objects; nothing that a submitter sends is ever imported.
"""

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from models.errors import SettingsError
from models.settings import config_file

REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
HASH_DIGITS = 12


def is_reference(name: str) -> bool:
    """Whether a name has the form of a reference: `package.module:object`."""
    return REFERENCE.fullmatch(name) is not None


def load_object(reference: str) -> Any:
    """Import the object that a reference names, from an installed package or a module beside batchmill.toml.

    Raises SettingsError that says what is wrong.
    """
    if not is_reference(reference):
        raise SettingsError(f"{reference[:80]!r} names no object; write it as package.module:object")
    module_name, _, path = reference.partition(":")
    try:
        with _modules_beside_config():
            value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"there is no module {error.name!r} here for {reference}; install its package, or put it beside "
            "batchmill.toml"
        ) from error
    except Exception as error:  # whatever the module does when it is imported
        raise SettingsError(f"{module_name} can't be imported: {type(error).__name__}: {str(error)[:200]}") from error
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise SettingsError(f"{module_name} has no {path}; correct the reference {reference}") from None
    return value


def code_version(reference: str) -> str:
    """The version of the code behind a reference that `load_object` has loaded: `my-package 1.2.0`, or a file's hash.

    A package that is installed in editable mode, or a module beside batchmill.toml, has the hash of its file.
    """
    module_name = reference.partition(":")[0]
    top_name = module_name.partition(".")[0]
    for distribution in metadata.packages_distributions().get(top_name, ()):
        if not _is_editable(distribution):
            return f"{distribution} {metadata.version(distribution)}"
    file = _module_file(module_name)
    if file is None:
        return module_name
    with open(file, "rb") as source:  # noqa: PTH123 - a module's file may be no path at all
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return f"{module_name} sha256:{digest[:HASH_DIGITS]}"


def find_version(reference: str) -> str | None:
    """As `code_version`, also for code that was not imported, which stays so; None if it is not installed here."""
    module_name = reference.partition(":")[0]
    if module_name not in sys.modules and _module_file(module_name) is None:
        return None
    return code_version(reference)


def _module_file(module_name: str) -> str | None:
    """The file of a module, found without importing it; packages around it are imported. None if there is none."""
    if module_name in sys.modules:
        return getattr(sys.modules[module_name], "__file__", None)
    try:
        with _modules_beside_config():
            spec = importlib.util.find_spec(module_name)
    except Exception:  # whatever a package around it does when it is imported
        return None
    return None if spec is None else spec.origin


def _is_editable(distribution: str) -> bool:
    direct_url = metadata.distribution(distribution).read_text("direct_url.json")
    return direct_url is not None and '"editable": true' in direct_url


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
