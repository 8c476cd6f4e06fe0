"""The tables of the reference are those that the code gives now."""

from pathlib import Path

import pytest

from models.settings import Settings
from tests import reference_tables
from tests.reference_tables import REFERENCE, TABLE

OWN_SECTIONS = {"pipelines", "sources", "schedules", "tenants"}  # tables of batchmill.toml, each with a page


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*.md")), ids=lambda page: page.name)
def test_a_page_has_the_tables_of_the_code(page: Path) -> None:
    text = page.read_text("utf-8")

    assert reference_tables.with_tables(text) == text, "run: make reference"


def test_each_setting_is_in_one_table() -> None:
    page = (REFERENCE / "configuration.md").read_text("utf-8")
    names = [name for found in TABLE.finditer(page) if found["names"] for name in found["names"].split(", ")]

    assert sorted(names) == sorted(Settings.model_fields.keys() - OWN_SECTIONS)


def test_each_kind_of_table_is_used() -> None:
    pages = "".join(page.read_text("utf-8") for page in REFERENCE.glob("*.md"))

    assert {found["kind"] for found in TABLE.finditer(pages)} == reference_tables.TABLES.keys()


@pytest.mark.parametrize(
    ("name", "default"),
    [("lease_seconds", "30"), ("serve_port", "8000"), ("max_source_bytes", "16 GiB"), ("home", "`~/.batchmill`"),
     ("retention_days", "never"), ("debug", "false"), ("max_source_rows", "100,000,000")],
)  # fmt: skip
def test_a_default_is_shown_as_people_write_it(name: str, default: str) -> None:
    assert reference_tables.default_of(name, Settings.model_fields[name]) == default
