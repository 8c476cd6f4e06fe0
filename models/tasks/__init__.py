"""Task specs. A new task needs a module here, an adapter in `worker/adapters/` and a catalogue entry."""

from models import operator_code
from models.errors import SettingsError, UsageError
from models.tasks.builtin_specs import ALIASES as ALIASES
from models.tasks.builtin_specs import ALL_NAMES as ALL_NAMES
from models.tasks.builtin_specs import SPECS as SPECS
from models.tasks.builtin_specs import TASKS as TASKS
from models.tasks.builtin_specs import find_builtin
from models.tasks.generic import transformers_pipeline
from models.tasks.own import registry
from models.tasks.spec import TaskSpec
from models.validation import suggest


def find_spec(name: str) -> TaskSpec:
    """Find the spec of a task by name, alias or variant, also one of an installed package.

    Raises UsageError that lists the tasks, or SettingsError if the package of that task is broken.
    """
    spec = find_builtin(name) or registry.find(name)
    if spec is not None:
        return spec
    names = [*ALL_NAMES, *(own.name for own in registry.registered())]
    advice = f"{suggest(name, names, 'Batchmill knows', ALIASES)}; if it is a package's, install that package here"
    raise UsageError(f"there is no task {name[:80]!r}; {advice}")


def find_spec_if_known(name: str) -> TaskSpec | None:
    """As `find_spec`; None for a task that this machine lacks, whose batches can be shown all the same."""
    try:
        return find_spec(name)
    except (SettingsError, UsageError):
        return None


def canonical_name(name: str) -> str:
    """Return the name under which the task of a catalogue entry is recorded.

    name: a name, an alias, a variant, or the reference of a task of one's own, which is imported.

    Raises UsageError if there is no such task, or SettingsError if it can't be used.
    """
    if operator_code.is_reference(name) and not name.startswith(transformers_pipeline.PREFIX):
        return registry.load_reference(name).name
    try:
        spec = find_spec(name)
    except SettingsError:
        raise
    except UsageError:
        registry.load_all()  # the alias of a package's task is known once that is imported
        spec = find_spec(name)
    return spec.canonical_name(name) or name
