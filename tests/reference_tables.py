"""Writes the tables of the reference that come from the code: `make reference`.

A table stands in a page between two comments, the first of which names it:

    <!-- table: settings: lease_seconds, heartbeat_seconds -->
    <!-- end of table -->

The pages are read in the repository as well, so the tables are committed. A test compares them with the code.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from models.error_catalogue import BATCHES, JOBS, Explanation
from models.settings import Settings
from tests.factories.metric_families import metric_families, server_registry, worker_registry

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
TABLE = re.compile(
    r"(<!-- table: (?P<kind>[\w ]+?)(?:: (?P<names>[\w, ]+))? -->\n).*?(?=<!-- end of table -->)", re.DOTALL
)
GIBIBYTE = 2**30
UNSET = re.compile(r"; unset: (?P<default>.*)\.$")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, tuple("---" for _ in lines[0]))
    return "".join(
        "|" + "|".join(cells if cells == "---" else f" {cells} " for cells in line) + "|\n" for line in lines
    )


def clause(sentence: str) -> str:
    """A sentence as it stands in a cell: without the capital and the last stop."""
    text = sentence.removesuffix(".")
    begins_with_a_word = text[1:2].islower() or text[1:2] == " "
    return text[0].lower() + text[1:] if begins_with_a_word else text


def default_of(name: str, field: FieldInfo) -> str:
    """The default of a setting, as the page shows it."""
    described = UNSET.search(field.description or "")
    value = field.get_default(call_default_factory=True)
    if described:
        return described["default"]
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("_bytes"):
        return f"{value // GIBIBYTE} GiB"
    if name.endswith("_port"):
        return str(value)
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else f"`{value}`"


def settings_table(names: str) -> str:
    """The settings of these names."""
    fields = {name: Settings.model_fields[name] for name in names.split(", ")}
    rows = (
        (f"`BATCHMILL_{name.upper()}`", default_of(name, field), clause(UNSET.sub(".", field.description or "")))
        for name, field in fields.items()
    )
    return table(("environment", "default", "meaning"), rows)


def codes_table(catalogue: Mapping[str, Explanation]) -> str:
    """The error codes of a catalogue, with their causes."""
    rows = ((f"`{code}`", clause(entry.cause), clause(entry.advice)) for code, entry in catalogue.items())
    return table(("code", "cause", "what to do"), rows)


def metrics_table(*, is_server: bool) -> str:
    """The metrics of a server or of a worker."""
    families = metric_families(server_registry() if is_server else worker_registry())
    rows = []
    for name, family in families.items():
        labels = dict.fromkeys(f"`{label}`" for sample in family.samples for label in sample.labels if label != "le")
        rows.append((f"`{name}`", family.type, ", ".join(labels), clause(family.documentation)))
    return table(("name", "type", "labels", "meaning"), rows)


def routes_table(root: str) -> str:
    """The routes below /api or /v1, from the copy of the OpenAPI document."""
    paths = json.loads((REFERENCE / "openapi.json").read_text("utf-8"))["paths"]
    rows = (
        (f"`{method.upper()} {path}`", clause(re.split(r"(?<=\.)\s", operation["description"])[0]))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if path.startswith(f"/{root}/")
    )
    return table(("route", "what it does"), rows)


TABLES: dict[str, Callable[[str], str]] = {
    "settings": settings_table,
    "codes of jobs": lambda _: codes_table(JOBS),
    "codes of batches": lambda _: codes_table(BATCHES),
    "routes": routes_table,
    "metrics of workers": lambda _: metrics_table(is_server=False),
    "metrics of servers": lambda _: metrics_table(is_server=True),
}


def with_tables(page: str) -> str:
    """The page with each table as the code has it now."""
    return TABLE.sub(lambda found: found[1] + TABLES[found["kind"]](found["names"] or ""), page)


def main() -> None:
    """Write the tables of all pages."""
    for path in sorted(REFERENCE.glob("*.md")):
        page = path.read_text("utf-8")
        if with_tables(page) != page:
            path.write_text(with_tables(page), "utf-8")


if __name__ == "__main__":
    main()
