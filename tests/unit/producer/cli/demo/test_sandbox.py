import os
import sys
from pathlib import Path

import pytest

from models.errors import BatchmillError
from models.settings import Settings
from producer.cli.demo import sandbox
from tests.servers import wait_until


def write_fake_program(path: Path, script: str) -> str:
    """Write a program that replaces Python, and return its path."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def raises(check: object) -> bool:
    try:
        check()  # type: ignore[operator]
    except BatchmillError:
        return True
    return False


def test_the_last_log_lines_are_shown_when_up_exits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", write_fake_program(tmp_path / "python", "echo 'no \033[31mluck'; exit 3"))

    with sandbox.run_up(tmp_path / "up.log", ["sample"]) as check:
        wait_until(lambda: raises(check), "the process to end")
        with pytest.raises(BatchmillError, match="ended with 3") as caught:
            check()

    assert str(caught.value).splitlines()[-1] == "  no  [31mluck"


def test_up_ends_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"trap 'echo ended > {tmp_path}/ended; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    monkeypatch.setattr(sys, "executable", write_fake_program(tmp_path / "python", script))
    log = tmp_path / "up.log"

    def interrupted() -> None:
        with sandbox.run_up(log, ["sample"]) as check:
            wait_until(lambda: "ready" in log.read_text(), "the process to start")
            check()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert (tmp_path / "ended").exists()


def test_the_demo_uses_only_its_own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batchmill.toml").write_text('database_url = "postgresql://127.0.0.1:1/precious"\n')
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", "postgresql://127.0.0.1:1/precious")
    monkeypatch.setenv("BATCHMILL_REDIS_URL", "redis://127.0.0.1:1/0")
    before = dict(os.environ)

    with sandbox.isolated_settings(tmp_path / "demo"):
        settings = Settings.load()
        assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'demo' / 'batchmill.db'}"
        assert settings.redis_url is None

    assert dict(os.environ) == before


def test_the_child_imports_packages_from_the_same_folder() -> None:
    path = sandbox._child_environment()["PYTHONPATH"].split(os.pathsep)

    assert (Path(path[0]) / "models" / "__init__.py").is_file()
