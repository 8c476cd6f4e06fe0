"""The documents name what exists: settings, commands, codes, fields, files."""

import base64
import re
import shlex
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from batchmill import COMMANDS, BatchHandle, Client, ResultRow, cli
from models import errors, tasks
from models.guards.definition import Guard
from models.guards.verdict import Verdict
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.postgresql import grants
from models.settings import Settings
from producer.cli.schedules.schedule import schedule
from producer.schedules.alerts.events import EventKind
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.timing.file_templates import NUMERIC_DIRECTIVES
from producer.server.pages.router import router as pages
from producer.webhooks.signing import SigningSecret

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROOMS = ("tutorials", "how-to", "reference", "explanation")
DOCUMENTS = sorted(page for room in ROOMS for page in (DOCS / room).glob("*.md"))
DECISIONS = sorted((DOCS / "explanation" / "decisions").glob("*.md"))
PAGES = [*DOCUMENTS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SCHEDULES = (DOCS / "how-to" / "schedules.md").read_text("utf-8")
JOB_ERROR = re.compile(r"JobError\(\s*\"([a-z_]+)\"")
PICTURE = re.compile(r"(?:src|srcset)=\"([^\"]+)\"")
# Options in the text that are not ours: of make's variables, of docker, of pg_dump, of examples and benchmarks.
FOREIGN_OPTIONS = {
    "--extras",
    "--help",
    "--items",
    "--machine",
    "--postgres",
    "--profile",
    "--python-version",
    "--statistics",
    "--without-torch",
}
RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks(language: str, page: str = SCHEDULES) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def code_words(page: str) -> set[str]:
    """Everything that stands between backticks, but for the blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", (DOCS / page).read_text("utf-8"), flags=re.DOTALL)))


def first_cells(section: str) -> set[str]:
    """The words between backticks in the first cells of a section's tables."""
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {word for line in rows for word in re.findall(r"`(\w+)`", line.split("|")[1])}


def error_classes(parent: type[errors.BatchmillError] = errors.BatchmillError) -> Iterator[type[errors.BatchmillError]]:
    for error in parent.__subclasses__():
        if error.__module__ == errors.__name__:
            yield error
            yield from error_classes(error)


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS, ROOT / "ARCHITECTURE.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text("utf-8")

    assert [link for link in RELATIVE_LINK.findall(text) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, DOCS / "index.md"], ids=lambda page: page.name)
def test_pictures_exist(page: Path) -> None:
    pictures = PICTURE.findall(page.read_text("utf-8"))

    assert [picture for picture in pictures if not (page.parent / picture).is_file()] == []


def test_the_landing_page_leads_to_every_page() -> None:
    text = (DOCS / "index.md").read_text("utf-8").partition("```{toctree}")[0]

    links = set(RELATIVE_LINK.findall(text))
    assert {str(page.relative_to(DOCS)) for page in DOCUMENTS} - links == set()


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_a_page_begins_with_what_its_reader_can_do(page: Path) -> None:
    title, _, text = page.read_text("utf-8").partition("\n\n")

    assert title.startswith("# ")
    assert text.startswith("After reading this page ")


def test_the_page_on_configuration_has_every_setting() -> None:
    named = {
        word.partition("=")[0] for word in code_words("reference/configuration.md") if word.startswith("BATCHMILL_")
    }
    tables = {"pipelines", "sources", "schedules"}
    expected = {f"BATCHMILL_{name.upper()}" for name in Settings.model_fields}

    assert {name for name in named if "__" not in name} - {"BATCHMILL_CONFIG"} == expected
    assert tables <= Settings.model_fields.keys()


def test_the_page_on_commands_has_every_command() -> None:
    words = [word.split() for word in code_words("reference/commands.md")]
    named = {" ".join(word[:length]) for word in words for length in (1, 2)}

    assert COMMANDS.keys() - named == set()


def options(command: click.Command) -> Iterator[str]:
    """All options of a command and of those below it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from options(below)


def test_options_in_the_text_exist() -> None:
    text = "\n".join(word for page in DOCUMENTS for word in code_words(str(page.relative_to(DOCS))))

    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))

    assert len(named) > 60
    assert named - set(options(cli)) == FOREIGN_OPTIONS


def page_addresses(router: APIRouter = pages) -> Iterator[str]:
    """The addresses of pages and of their parts, with a word for each parameter."""
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from page_addresses(inner)
        elif isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            yield re.sub(r"\{\w+\}", "X", route.path)


def test_the_page_on_the_pages_has_their_addresses() -> None:
    table = (DOCS / "how-to" / "pages.md").read_text("utf-8").partition("## What is where")[2].partition("\n\nEvery")[0]
    documented = {re.sub(r"[A-Z]+", "X", address) for address in re.findall(r"\| `(/\S*)` \|", table)}

    known = set(page_addresses())

    assert len(documented) > 18
    assert documented - known == set()
    of_the_menu = {address for address in known if re.fullmatch(r"/[a-z]*|/[a-z]+/X", address)}
    assert of_the_menu - documented == {"/static/X"}


def test_the_page_on_installing_has_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    page = (DOCS / "how-to" / "install.md").read_text("utf-8").partition("## Extras")[2].partition("\n## ")[0]

    assert first_cells(page) | {"dev", "docs", "browser"} == extras.keys()


def test_the_page_on_python_has_every_public_name() -> None:
    page = re.sub(r"```.*?```", "", (DOCS / "how-to" / "python.md").read_text("utf-8"), flags=re.DOTALL)
    words = set(re.findall(r"\b\w+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    names = {name for kind in (Client, BatchHandle, ResultRow) for name in vars(kind) if not name.startswith("_")}

    assert names - words == {"json_line", "documents_length"}
    for block in blocks("python", (DOCS / "how-to" / "python.md").read_text("utf-8")):
        compile(block, "docs/how-to/python.md", "exec")


def test_the_page_on_pipelines_has_every_task_and_every_key() -> None:
    words = code_words("reference/pipelines.md")

    assert tasks.TASKS.keys() - words == set()
    assert Pipeline.model_fields.keys() - words == {"name"}


def test_the_page_on_guards_has_every_key_of_a_guard_and_of_a_verdict() -> None:
    page = (DOCS / "how-to" / "guards.md").read_text("utf-8")
    keys, stored = page.partition("## Keys")[2], page.partition("## What is stored")[2]

    assert first_cells(keys.partition("\n## ")[0]) == Guard.model_fields.keys()
    assert first_cells(stored.partition("\n## ")[0]) == Verdict("g", "input", "pass").as_dict().keys()


def test_the_settings_on_the_page_on_guards_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = blocks("toml", (DOCS / "how-to" / "guards.md").read_text("utf-8"))
    commit = "0123456789abcdef" * 2 + "01234567"
    pinned = second.replace("the commit, 40 hexadecimal digits", commit)
    answers = first.partition("\n\n")[0]

    guarded = Catalogue.load(Settings(**tomllib.loads(first)))["answers"].guards
    others = Catalogue.load(Settings(**tomllib.loads(f"{answers}\n\n{pinned}")))["answers"].guards

    assert list(guarded) == ["injection", "length", "contacts", "toxicity", "secrets"]
    assert list(others) == ["injection", "private"]


def test_the_settings_on_the_page_on_pipelines_of_transformers_are_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    page = "\n".join(blocks("toml", (DOCS / "how-to" / "transformers-pipelines.md").read_text("utf-8")))

    catalogue = Catalogue.load(Settings(**tomllib.loads(page)))

    assert [catalogue[name].task for name in ("tables", "triage", "pairs")] == [
        "table-question-answering",
        "decision",
        "transformers:pair-scores",
    ]
    assert len(catalogue["pairs"].examples) == 3


def test_the_page_on_output_has_every_error_code() -> None:
    sources = [path for room in ("models", "producer", "worker") for path in (ROOT / room).rglob("*.py")]
    codes = {code for path in sources for code in JOB_ERROR.findall(path.read_text("utf-8"))}
    codes |= {error.code for error in error_classes() if error is not errors.JobError}

    assert len(codes) > 50
    assert codes - code_words("reference/output.md") == set()


def test_each_field_of_a_schedule_has_its_line_and_its_option() -> None:
    table = SCHEDULES.partition("## Fields")[2].partition("\n## ")[0]
    named = [cell for line in table.splitlines() if line.startswith("| `") for cell in line.split("|")[1].split(",")]
    fields = {re.sub(r"[` °]", "", cell): "°" in cell for cell in named}

    assert fields.keys() == ScheduleDefinition.model_fields.keys()
    options = {parameter.name for parameter in schedule.commands["create"].params}
    assert {name for name, without in fields.items() if not without} == options - {"replace"}


def test_the_page_on_schedules_has_every_event_command_and_time_code() -> None:
    events = SCHEDULES.partition("## Events")[2]

    assert [kind for kind in EventKind if f"`{kind}`" not in events] == []
    assert [name for name in schedule.commands if f"`schedule {name}" not in SCHEDULES] == []
    assert sorted(re.findall(r"%(\w)", SCHEDULES.partition("Its pattern takes")[2].partition(",")[0])) == sorted(
        NUMERIC_DIRECTIVES
    )


def test_the_webhook_receiver_accepts_our_signature_and_no_other() -> None:
    scope: dict[str, Any] = {}
    receiver = blocks("python", (DOCS / "how-to" / "webhooks.md").read_text("utf-8"))[0]
    exec(compile(receiver, "docs/how-to/webhooks.md", "exec"), scope)
    secret, body, now = "whsec_" + base64.b64encode(b"k" * 32).decode(), b'{"type": "schedule.drift"}', int(time.time())
    headers = SigningSecret.parse(secret).signature_headers("msg_1", now, body)

    is_ours = scope["is_ours"]
    assert is_ours(secret, headers, body)
    assert is_ours(secret, headers | {"webhook-signature": f"v1,other {headers['webhook-signature']}"}, body)
    assert not is_ours(secret, headers, body + b" ")
    assert not is_ours(secret, headers | {"webhook-id": "msg_2"}, body)
    assert not is_ours("whsec_" + base64.b64encode(b"x" * 32).decode(), headers, body)
    assert not is_ours(secret, SigningSecret.parse(secret).signature_headers("msg_1", now - 3600, body), body)


def test_the_example_on_the_page_is_the_example_that_runs() -> None:
    documented = tomllib.loads(blocks("toml")[0])["schedules"]["nightly-tickets"]
    example = tomllib.loads((ROOT / "examples" / "nightly" / "batchmill.toml").read_text("utf-8"))

    assert documented == example["schedules"]["nightly-tickets"]
    assert ScheduleDefinition.from_fields("nightly-tickets", documented)
    Settings(**example)


def test_the_page_on_postgresql_has_the_grants_that_are_printed() -> None:
    page = (DOCS / "how-to" / "postgresql.md").read_text("utf-8")

    assert "BATCHMILL_DATABASE_BEHIND_POOLER" in page
    assert Settings.model_fields["database_behind_pooler"].default is False
    for purpose in grants.Purpose:
        assert f"--{purpose.value} mill_{purpose.value}" in page
    location = grants.SchemaLocation("mill", "public")
    printed = grants.grant_statements(location, "mill_reader", grants.Purpose.READER)
    for statement, documented in zip(printed, blocks("sql", page)[1].splitlines(), strict=True):
        assert re.fullmatch(re.escape(documented).replace("…", ".*"), statement)


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each `batchmill` command that a page shows, without what a shell does with them."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"^\$ (?:BATCHMILL_\w+=\S+ )*batchmill (.*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        end = next((place for place, word in enumerate(words) if word[0] in "|<>&"), len(words))
        yield words[:end]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_line_is_one_that_the_command_takes(page: Path) -> None:
    """Options, their values and the number of arguments; nothing is run."""
    for words in command_lines(page):
        command: click.Command = cli
        while words and words[0].startswith("--"):  # of the group, such as --database-url URL
            words = words[2:] if words[0] != "--version" else []
        while words and isinstance(command, click.Group):
            name, found, words = command.resolve_command(click.Context(command), list(words))
            assert found is not None, name
            command = found
        if command is not cli:
            command.make_context(command.name, list(words))


def test_the_pages_show_commands() -> None:
    assert sum(len(list(command_lines(page))) for page in PAGES) > 30
