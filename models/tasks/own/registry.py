"""The tasks of one's own that this process knows: of installed packages, and of references in batchmill.toml.

A package adds a task by an entry point in the group `batchmill.tasks`, whose name is the task's. It is imported when
somebody asks for a task of exactly this name, or for the list of all. A name that no package has may be that of a task
in batchmill.toml, whose references are then imported. Nothing else is.
"""

import threading
from dataclasses import dataclass
from importlib import metadata

from models import operator_code
from models.errors import SettingsError
from models.settings import Settings
from models.tasks.builtin_specs import find_builtin
from models.tasks.generic import transformers_pipeline
from models.tasks.own.own_spec import OwnTaskSpec, make_spec

ENTRY_POINT_GROUP = "batchmill.tasks"

_lock = threading.RLock()
_specs: dict[str, OwnTaskSpec] = {}  # by name


@dataclass(frozen=True, slots=True)
class BrokenTask:
    """A task that can't be used, and why.

    name: that of its entry point, or its reference.
    origin: the package, or the pipeline in batchmill.toml.
    pipeline: the name of that pipeline, None = it is a package's.
    """

    name: str
    origin: str
    problem: str
    pipeline: str | None = None


def find(name: str) -> OwnTaskSpec | None:
    """Return the task of this name or alias; None if there is none. Raises SettingsError if its package is broken.

    The alias of a package's task is found once the task was loaded by its name or for a list.
    """
    if name in _specs:
        return _specs[name]
    if (entry := _find_entry(name)) is not None:
        return _load_entry(entry)
    if (spec := _find_registered(name)) is None:
        _load_references()
        spec = _find_registered(name)
    return spec


def load_reference(reference: str) -> OwnTaskSpec:
    """Return the task that a reference of the operator names, and register it. Raises SettingsError."""
    task = operator_code.load_object(reference)
    for known in registered():
        if known.reference == reference and known.task is task:
            return known
    spec = make_spec(task, reference)
    entry = _find_entry(spec.name)
    if entry is not None and _load_entry(entry).task is not spec.task:
        raise SettingsError(
            f"{reference} has the name of the task {spec.name} that package {_package(entry)} installs; "
            "name one of them otherwise"
        )
    return _register(spec)


def load_all() -> list[OwnTaskSpec | BrokenTask]:
    """Load the tasks of all installed packages and of batchmill.toml, and return all that are registered, by name."""
    broken = _load_references()
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            _load_entry(_find_entry(entry.name) or entry)
        except SettingsError as error:
            broken.append(BrokenTask(entry.name, f"package {_package(entry)}", str(error)))
    return sorted((*_specs.values(), *broken), key=lambda task: task.name)


def registered() -> list[OwnTaskSpec]:
    """The tasks that this process has loaded."""
    return list(_specs.values())


def _find_entry(name: str) -> metadata.EntryPoint | None:
    """The entry point of exactly this name. Raises SettingsError if several packages have different ones."""
    entries = tuple(metadata.entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len({entry.value for entry in entries}) > 1:
        packages = " and ".join(sorted({_package(entry) for entry in entries}))
        raise SettingsError(f"several packages have a task {name}: {packages}; uninstall one of them")
    return entries[0] if entries else None


def _find_registered(name: str) -> OwnTaskSpec | None:
    return next((spec for spec in registered() if name in (spec.name, *spec.aliases)), None)


def _load_references() -> list[BrokenTask]:
    """Register the tasks that batchmill.toml refers to; returns those that can't be used."""
    broken = []
    try:
        entries = Settings.load().pipelines
    except SettingsError:  # reported where the settings are used
        return []
    for pipeline, entry in entries.items():
        reference = str(entry.get("task"))
        if not operator_code.is_reference(reference) or reference.startswith(transformers_pipeline.PREFIX):
            continue
        try:
            load_reference(reference)
        except SettingsError as error:
            broken.append(BrokenTask(reference, f"[pipelines.{pipeline}]", str(error), pipeline))
    return broken


def _load_entry(entry: metadata.EntryPoint) -> OwnTaskSpec:
    reference = entry.value.partition("[")[0].replace(" ", "")
    with _lock:
        known = _specs.get(entry.name)
        if known is not None and known.reference == reference:
            return known
        spec = make_spec(operator_code.load_object(reference), reference)
        if spec.name != entry.name:
            raise SettingsError(
                f"{reference} is the task {spec.name}, but package {_package(entry)} calls its entry point "
                f"{entry.name}; make them equal"
            )
        return _register(spec)


def _register(spec: OwnTaskSpec) -> OwnTaskSpec:
    for name in (spec.name, *spec.aliases):
        other = find_builtin(name)
        if other is not None:
            raise SettingsError(f"{spec.reference}: {name} is Batchmill's own {other.name}; name it otherwise")
        for own in registered():
            if own.name != spec.name and name in (own.name, *own.aliases):
                raise SettingsError(f"{spec.reference}: {name} is also a name of {own.reference}; name it otherwise")
    with _lock:
        _specs[spec.name] = spec
    return spec


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value
