import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import batchmill
from models import version
from models.errors import BatchmillError, NotFound, Unreachable
from producer.cli import unknown_command
from producer.client import Client
from producer.handle import BatchHandle

ROOT = Path(batchmill.__file__).parent
HEAVY = ("torch", "transformers", "numpy", "sqlalchemy", "celery", "rich", "pydantic", "alembic")


def python(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python where our packages can be imported from any folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def commands_under(command: click.Command | None) -> Iterator[click.Command]:
    """The command, and all below it."""
    assert command is not None
    yield command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from commands_under(child)


class TestHelp:
    def test_it_lists_every_command_in_its_own_words(self) -> None:
        for name, entry in batchmill.COMMANDS.items():
            command: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
            assert command.name == name
            assert command.get_short_help_str(200) == entry.help

    def test_every_command_explains_itself(self) -> None:
        for name in batchmill.COMMANDS:
            result = CliRunner().invoke(batchmill.cli, [name, "--help"])
            assert result.exit_code == 0, name
            assert result.stdout.startswith("Usage: ")

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("submti", "there is no command 'submti'; is submit meant?"),
            ("list", "there is no command 'list'; is ls meant?"),
            ("xyzzy", "there is no command 'xyzzy'; there are: up, down, submit"),
            ("\x1b[31m", "there is no command '\\x1b[31m'; there are"),
        ],
    )
    def test_an_unknown_command_leads_to_one(self, name: str, advice: str) -> None:
        result = CliRunner().invoke(batchmill.cli, [name])

        assert result.exit_code == 2
        assert advice in result.stderr

    def test_names_of_other_tools_lead_to_commands(self) -> None:
        assert unknown_command.OTHER_NAMES.keys().isdisjoint(batchmill.COMMANDS)
        assert set(unknown_command.OTHER_NAMES.values()) <= batchmill.COMMANDS.keys()

    def test_every_option_says_what_it_takes(self) -> None:
        options = [
            (name, option)
            for name in batchmill.COMMANDS
            for command in commands_under(batchmill.cli.get_command(click.Context(batchmill.cli), name))
            for option in command.params
            if isinstance(option, click.Option) and not option.hidden
        ]

        unexplained = [(name, option.opts[0]) for name, option in options if not option.help]
        by_type = [
            (name, option.opts[0])
            for name, option in options
            if not option.is_flag and option.metavar is None and not isinstance(option.type, click.Choice)
        ]

        assert (unexplained, by_type) == ([], [])

    def test_it_imports_next_to_nothing(self) -> None:
        script = (
            "import sys, batchmill\n"
            "sys.argv = ['batchmill', '--help']\n"
            "try:\n"
            "    batchmill.main()\n"
            "finally:\n"
            "    print(*sorted(sys.modules), file=sys.stderr)\n"
        )

        result = python("-c", script)

        loaded = {name.partition(".")[0] for name in result.stderr.split()}
        assert "Commands:" in result.stdout
        assert not loaded & {*HEAVY, "models", "producer", "worker"}

    def test_importing_batchmill_imports_next_to_nothing(self) -> None:
        result = python("-X", "importtime", "-c", "import batchmill")

        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
        assert "batchmill" in loaded
        assert not loaded & {*HEAVY, "models", "producer"}

    def test_the_client_never_imports_torch(self) -> None:
        result = python("-c", "from batchmill import Client; import sys; Client().settings; print(*sys.modules)")

        loaded = {name.partition(".")[0] for name in result.stdout.split()}
        assert "sqlalchemy" in loaded
        assert not loaded & {"torch", "transformers", "numpy", "celery"}

    def test_a_client_over_http_never_imports_sqlalchemy(self) -> None:
        # Submitting fails for a file that there is not, after everything was imported that it needs.
        program = """
import sys
from batchmill import Client, UsageError
try:
    Client("http://127.0.0.1:1").submit("p", files="none.csv", deadline="6h")
except UsageError:
    print(*sys.modules)
"""
        loaded = {name.partition(".")[0] for name in python("-c", program).stdout.split()}

        assert "httpx2" in loaded
        assert not loaded & {"sqlalchemy", "alembic", "psycopg", "celery", "torch", "transformers", "numpy"}

    def test_the_version_is_the_packages(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

        assert project["version"] == version.VERSION
        shown = CliRunner().invoke(batchmill.cli, ["--version"]).stdout
        assert shown == f"batchmill, version {version.full_version()}\n"


class TestApi:
    def test_the_client_and_the_errors_are_here(self) -> None:
        assert batchmill.Client is Client
        assert batchmill.BatchHandle is BatchHandle
        assert batchmill.NotFound is NotFound

    @pytest.mark.parametrize("name", ["Nothing", "_private", "first_line", "os"])
    def test_nothing_else_is(self, name: str) -> None:
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            batchmill.__getattr__(name)


class TestErrors:
    """Whatever a command raises ends as one sentence and an exit code."""

    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def with_error(error: BaseException) -> Any:
            def fail() -> None:
                raise error

            command = click.Command("fail", callback=fail)
            monkeypatch.setattr(batchmill.LazyGroup, "get_command", lambda *_: command)
            return CliRunner().invoke(batchmill.cli, ["fail"])

        return with_error

    @pytest.mark.parametrize(
        ("error", "code"), [(BatchmillError("sad"), 1), (NotFound("gone"), 4), (Unreachable("away"), 5)]
    )
    def test_ours_are_one_line(self, run: Any, error: BatchmillError, code: int) -> None:
        result = run(error)

        assert result.exit_code == code
        assert result.stderr == f"batchmill: {error}\n"
        assert result.stdout == ""

    def test_a_package_that_only_workers_have_is_named_by_its_extra(self, run: Any) -> None:
        result = run(ModuleNotFoundError("No module named 'huggingface_hub'", name="huggingface_hub.errors"))

        assert result.exit_code == 2
        assert "pip install -c constraints.txt '.[worker]'" in result.stderr

    def test_others_are_not_quoted(self, run: Any) -> None:
        result = run(ValueError("canary"))

        assert result.exit_code == 1
        assert result.stderr == (
            "batchmill: a defect in Batchmill (ValueError); "
            "run again with BATCHMILL_DEBUG=1 to see where it comes from\n"
        )

    def test_a_traceback_on_request(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_DEBUG", "1")

        result = run(NotFound("gone"))

        assert result.exit_code == 4
        assert "Traceback (most recent call last)" in result.stderr
        assert result.stderr.endswith("batchmill: gone\n")

    def test_ctrl_c_is_130(self, run: Any) -> None:
        result = run(KeyboardInterrupt())

        assert result.exit_code == 130
        assert result.stderr == "batchmill: interrupted\n"

    def test_usage_is_2(self) -> None:
        for arguments in (["no-such-command"], ["show"], ["ls", "--limit", "0"], ["submit", "a.jsonl"]):
            assert CliRunner().invoke(batchmill.cli, arguments).exit_code == 2

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_a_reader_that_has_seen_enough_is_no_error(self, unbuffered: str) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            result = subprocess.run(
                [sys.executable, "-m", "batchmill", "pipelines"],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
                stdout=writing,
                stderr=subprocess.PIPE,
                timeout=180,
                check=False,
            )
        finally:
            os.close(writing)

        assert result.stderr == b""
        assert result.returncode == 141


class TestSettings:
    def test_flags_go_before_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_HOME", str(tmp_path / "environment"))

        result = CliRunner().invoke(batchmill.cli, ["--home", str(tmp_path / "flag"), "db", "upgrade"])

        assert result.exit_code == 0
        assert (tmp_path / "flag" / "batchmill.db").exists()
        assert os.environ["BATCHMILL_HOME"] == str(tmp_path / "environment")
        assert not (tmp_path / "environment").exists()

    def test_settings_that_are_wrong_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_SLICE_SIZE", "many")

        result = CliRunner().invoke(batchmill.cli, ["ls"])

        assert result.exit_code == 2
        assert "setting 'slice_size'" in result.stderr

    def test_passwords_are_not_shown(self) -> None:
        url = "postgresql://me:canary@127.0.0.1:1/x"

        result = CliRunner().invoke(batchmill.cli, ["--database-url", url, "ls"])

        assert result.exit_code == 5
        assert "does not answer" in result.stderr
        assert "canary" not in result.output
