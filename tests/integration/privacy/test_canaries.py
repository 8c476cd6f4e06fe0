"""A password, a token, a label and a text go through every command, every setting and every way to fail.

None of them may be in what is written: on standard output and error, in logs of either format, in files that Batchmill
makes of its own accord. Commands that are asked for results print texts of inputs, and nothing else of it.
"""

import base64
import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import psycopg
import pytest
from click.testing import CliRunner, Result
from sqlalchemy.exc import DBAPIError, IntegrityError

import batchmill
from models import schema
from models.db import Database
from models.documents import to_json
from models.errors import Unreachable
from models.settings import Settings
from models.tasks.own import registry
from producer.cli.demo import sandbox
from producer.server import run as serving
from tests import fake_worker
from tests.factories.batch_rows import execute
from tests.factories.guard_rows import verdict
from tests.servers import RedisDatabase
from worker.cli import maintain, task_check
from worker.cli import run as running
from worker.task_checks.report import CheckResult

SECRET = "canary-7f3a"  # of what is never shown
PATTERN = "ibis-90d4"  # of a guard's rule, which only `pipelines` shows
TEXT = "heron-51c2"  # of inputs, which commands that are asked for them show
NUMBER = 0.73649  # of a vector, which only `results` shows
GOOD = {"label": "POSITIVE", "score": 0.5}
LABELS = json.dumps([f"{SECRET} a", f"{SECRET} b"])
WEBHOOK = f"https://127.0.0.1:1/hooks/{SECRET}?token={SECRET}"
KEY = "whsec_" + base64.b64encode(f"{SECRET} is the key of all".encode()).decode()

CRON = ("--cron", "0 2 * * *")
SENTIMENT = ("--pipeline", "sample-sentiment-analysis")
ZERO_SHOT = ("--pipeline", "sample-zero-shot-classification", "--param", f"candidate_labels={LABELS}")
KEPT_KEYS = ("IN", *ZERO_SHOT, "--json", "--passthrough", "meta")
RESULTS_OPTIONS = ((), ("--json",), ("-o", "out.csv"), ("-o", "out.npy"), ("--to-sql", "mine"))

# What each command is called with; BATCH and IN stand for a batch's id and a file of inputs.
CASES: dict[str, list[Sequence[str]]] = {
    "up": [(), ("--log-file", "up.log")],
    "down": [()],
    "worker": [("sample-sentiment-analysis",)],
    "maintain": [()],
    "serve": [("--port", "0")],
    "demo": [()],
    "submit": [
        ("IN", *ZERO_SHOT),
        KEPT_KEYS,
        ("IN", *ZERO_SHOT, "--dry-run"),
        ("IN", *ZERO_SHOT, "--param", SECRET),
        ("IN", *ZERO_SHOT, "--param", f"multi_label={SECRET}"),
        ("IN", "--pipeline", "sample-zero-shot-classification", "--param", f'candidate_labels=["{SECRET}","{SECRET}"]'),
        ("IN", "--pipeline", "sample-zero-shot-classification", "--param", f"hypothesis_template={{{SECRET}}}"),
        ("IN", "--pipeline", "sample-text-generation", "--param", f"stop_strings={json.dumps([SECRET] * 17)}"),
        ("IN", "--pipeline", "sample-text-generation", "--param", f"temperature={SECRET}"),
        ("IN", "--pipeline", "sample-text-generation", "--param", f'output_schema={{"const": "{SECRET}"}}', "--json"),
        ("IN", "--pipeline", "sample-text-generation", "--param", f'output_schema={{"type": "{SECRET}"}}'),
        ("IN", "--pipeline", "sample-text-generation", "--param", f'output_schema={{"format": "{SECRET}"}}'),
        ("IN", "--pipeline", "sample-text-generation", "--param", f'output_schema={{"$ref": "#/{SECRET}"}}'),
        ("IN", "--pipeline", "sample-text-generation", "--param", f"output_schema=({SECRET}"),
        ("IN", "--pipeline", "sample-text-generation", "--param", f"output_schema={SECRET}(?=a)"),
        ("IN", "--pipeline", "sample-ner", "--param", f"aggregation_strategy={SECRET}"),
        ("IN", "--pipeline", "sample-feature-extraction", "--json"),
        ("IN", "--pipeline", "sample-feature-extraction", "--dry-run"),
        ("IN", "--pipeline", "sample-feature-extraction", "--param", f"pooling={SECRET}"),
        ("IN", "--pipeline", "sample-feature-extraction", "--param", f"prompt_name={SECRET}"),
        ("PAIRS", "--pipeline", "sample-text-ranking", "--json"),
        ("PAIRS", "--pipeline", "sample-text-ranking", "--dry-run"),
        ("PAIRS", "--pipeline", "sample-text-ranking", "--on-invalid", "fail-row"),
        ("IN", "--pipeline", "sample-text-ranking", "--input", "query=text"),
        ("IN", "--pipeline", "sample-text-ranking", "--input", "query=text", "--input", "texts=text"),
        ("IN", "--pipeline", "sample-text-ranking", "--param", f"function_to_apply={SECRET}"),
        ("IN", "--pipeline", "own"),
        ("IN", "--pipeline", "own", "--dry-run", "--input", "context=text"),
        ("IN", "--pipeline", "own", "--input", "tags=text"),
        ("IN", "--pipeline", "own", "--input", "weight=text", "--on-invalid", "fail-row"),
        ("BAD", "--pipeline", "own", "--on-invalid", "fail-row"),
        ("IN", "--pipeline", "own", "--param", f"style={SECRET}"),
        ("IN", "--pipeline", "own", "--param", f"digits={SECRET}"),
        ("IN", "--pipeline", "prompted"),
        ("IN", "--pipeline", "prompted", "--json"),
        ("IN", "--pipeline", "prompted", "--dry-run"),
        ("IN", "--pipeline", "prompted", "--param", f"prompt={SECRET}"),
        ("IN", *SENTIMENT, "--idempotency-key", "again"),
        ("IN", *ZERO_SHOT, "--idempotency-key", "again"),
        ("IN", *SENTIMENT, "--webhook", WEBHOOK, "--json"),
        ("IN", *SENTIMENT, "--webhook", f"http://{SECRET}@h/"),
        ("BAD", *SENTIMENT),
        ("BAD", *SENTIMENT, "--format", "csv", "--column-names", "text"),
        ("BAD", *SENTIMENT, "--format", "csv", "--column-names", "text,label"),
        ("BAD", *SENTIMENT, "--column-names", "text"),
        ("BAD", *SENTIMENT, "--on-invalid", "fail-row"),
        ("BAD", "--repair", "BATCH"),
        ("IN", "--repair", "BATCH", "--id", "id"),
        (f"https://u:{SECRET}@127.0.0.1:1/a.jsonl?signature={SECRET}", *SENTIMENT),
        (f"nothing://u:{SECRET}@h/a.jsonl?signature={SECRET}", *SENTIMENT),
        (f"s3://b/a.zip?signature={SECRET}", *SENTIMENT),
        ("--sql", "shop", "--bind", f"region={SECRET}", *SENTIMENT),
        ("--sql", "shop", "--bind", SECRET, *SENTIMENT),
        ("--sql", "away", *SENTIMENT),
        ("--sql", "malformed", *SENTIMENT),
        ("--sql", "extra", *SENTIMENT),
        ("--from", "BATCH", *ZERO_SHOT, "--input", "text=output.label"),
        ("--from", "BATCH", *ZERO_SHOT, "--input", "text=input.text", "--label", SECRET),
        ("--from", "ENDED", *ZERO_SHOT, "--input", "text=input.text", "--dry-run"),
        ("--from", "ENDED", *ZERO_SHOT, "--input", "text=input.text", "--passthrough", "output", "--json"),
        ("--from", "ENDED", *ZERO_SHOT, "--input", "text=input.text", "--label", SECRET, "--min-score", "0.5"),
        ("--from", "ENDED", *ZERO_SHOT, "--input", "text=output.label", "--status", "succeeded"),
        ("--from", "ENDED", *ZERO_SHOT, "--input", "text=output", "--on-invalid", "fail-row"),
        ("--from", "ENDED", *ZERO_SHOT, "--input", "text=output.text"),
        (
            "--from",
            "ENDED",
            *ZERO_SHOT,
            "--input",
            "text=input.text",
            "--passthrough",
            "shop",
            "--on-invalid",
            "fail-row",
        ),
    ],
    "ls": [(), ("--json",)],
    "show": [("BATCH",), ("BATCH", "--json")],
    "wait": [("BATCH", "--timeout", "0.1"), ("BATCH", "--timeout", "0.1", "--json")],
    "watch": [("BATCH", "--timeout", "0.1"), ("BATCH", "--timeout", "0.1", "--json")],
    "cancel": [("BATCH",), ("BATCH", "--json")],
    "retry": [("BATCH",), ("BATCH", "--json"), ("BATCH", "--code", "guard_blocked")],
    "prune": [("--older-than", "1d", "--dry-run"), ("--older-than", "1d", "--json")],
    "results": [("BATCH", *how) for how in RESULTS_OPTIONS],
    "errors": [("BATCH",), ("BATCH", "--json"), ("BATCH", "-o", "errors.jsonl")],
    "attempts": [("BATCH",), ("BATCH", "--json"), ("BATCH", "--position", "0")],
    "audit": [(), ("BATCH", "--json")],
    "delete": [("BATCH", "--cancel", "--json")],
    "schedule create": [
        ("night", *CRON, *SENTIMENT, "--sql", "shop", "--bind", f"region={SECRET}", "--webhook", WEBHOOK),
        ("label", *CRON, *ZERO_SHOT, "--file", f"https://u:{SECRET}@h/{{time:%Y-%m-%d}}.jsonl?sig={SECRET}"),
        ("lost", *CRON, *SENTIMENT, "--sql", "away", "--webhook", WEBHOOK),
        ("chained", "--after", "night", *SENTIMENT, "--label", SECRET, "--input", "text=input.text"),
        ("wrong", *CRON, *SENTIMENT, "--sql", "extra", "--webhook", WEBHOOK),
        ("night", *CRON, *SENTIMENT, "--sql", "shop", "--webhook", f"https://u:{SECRET}@h/x"),
        ("night", *CRON, *SENTIMENT, "--sql", "shop", "--webhook", f"http://example.org/{SECRET}"),
        ("night", *CRON, *SENTIMENT, "--sql", "shop", "--webhook", f"https://[{SECRET}"),
        ("night", *CRON, *SENTIMENT, "--sql", "shop", "--webhook", f"https://h:{SECRET}/"),
        ("night", *CRON, *SENTIMENT, "--sql", "shop", "--webhook", f"https://h/{SECRET} ü"),
        ("night", *CRON, *SENTIMENT, "--file", f"https://u:{SECRET}@h/a.jsonl?sig={SECRET}"),
        ("night", *CRON, *SENTIMENT, "--file", f"https://u:{SECRET}@h/{{time}}.jsonl?sig={SECRET}"),
    ],
    "schedule sync": [(), ("--check",), ("--prune",)],
    "schedule trigger": [("night",), ("lost",), ("wrong",)],
    "schedule backfill": [
        ("night", "--from", "2026-01-01", "--to", "2026-01-02"),
        ("night", "--time", "2026-01-01", "--json"),
    ],
    "schedule tick": [(), ("--now", "2031-01-01T03:00Z")],
    "schedule show": [
        (name, *how) for name in ("night", "label", "lost", "chained", "from_config") for how in ((), ("--json",))
    ],
    "schedule ls": [(), ("--json",)],
    "schedule history": [("night",), ("lost", "--json"), ("wrong", "--json")],
    "schedule report": [("night",), ("lost", "--json")],
    "schedule metrics": [()],
    "schedule suspend": [("night",)],
    "schedule resume": [("night",)],
    "schedule delete": [("night",), ("chained",), ("night",)],
    "pipelines": [(), ("--json",)],
    "tasks": [(), ("ner", "--json"), ("irony",)],
    "tasks check": [("sample-sentiment-analysis",), ("private", "--json")],
    "models ls": [(), ("--json",)],
    "models show": [
        ("sample-sentiment-analysis",),
        ("private", "--json"),
        ("prompted",),
        ("prompted", "--json"),
        ("sample-feature-extraction",),
        ("sample-text-ranking", "--json"),
        ("sample-zero-shot-classification",),
        ("sample-zero-shot-classification", "--json"),
    ],
    "models pull": [("private",)],
    "workers": [(), ("--json",)],
    "doctor": [(), ("--json",)],
    "usage": [(), ("--csv",), ("--json",)],
    "keys create": [("--tenant", "acme", "--json"), ("--all-tenants",), ("--tenant", "acme", "--scope", "admin")],
    "keys ls": [(), ("--json",)],
    "keys revoke": [("KEY",), (f"bm_0123456789abcdef_{SECRET}",)],
    "db upgrade": [(), ("--json",)],
    "db grants": [("--reader", "r"), ("--worker", "w", "--json"), ("--submitter", "")],
}
UNDONE = {
    "audit",
    "db grants",
    "demo",
    "doctor",
    "models pull",
    "models show",
    "retry",
    "wait",
    "watch",
    "worker",
    "up",
}
SHOW_TEXTS = ("results", "errors", "attempts", "watch", "demo")

# A value with a secret in it for each setting that may have one; the others are numbers, choices and places.
SETTINGS: dict[str, Any] = {
    "database_url": None,
    "redis_url": None,
    "webhook_secret": KEY,  # the first two in ENVIRONMENTS
    "pipelines": {
        "own": {"task": "tests.factories.own_task.irony_tasks.tasks:IRONY", "model": "nobody/nothing"},
        "private": {
            "task": "zero-shot-classification",
            "model": "nobody/nothing",
            "parameters": {"candidate_labels": [SECRET, f"{SECRET} b"]},
        },
        "prompted": {
            "task": "text-generation",
            "model": "bundled:text-generation",
            "prompt": f"{SECRET}: {{text}}",
            "system": SECRET,
        },
        "sample-zero-shot-classification": {
            "guards": {
                "words": {"on": "input", "action": "flag", "words": [SECRET, f"{SECRET} b"]},
                "pattern": {"on": "input", "action": "redact", "pattern": PATTERN, "keep_original": True},
            }
        },
    },
    "source_schemes": ["https", "nothing"],
    "file_store": f"memory://u:{SECRET}@files/x?signature={SECRET}",
    "sources": {
        "shop": {"url": "SHOP", "query": "SELECT id, body AS text FROM tickets WHERE region <> :region OR TRUE"},
        "away": {"url": f"postgresql://u:{SECRET}@127.0.0.1:1/x", "query": "SELECT 1 AS text"},
        "malformed": {"url": f"postgresql://u:{SECRET}@h:port/x", "query": "SELECT 1 AS text"},
        "extra": {"url": f"postgresql://h/x?passwort={SECRET}", "query": "SELECT 1 AS text"},
    },
    "schedules": {
        "from_config": {
            "cron": "0 3 * * *",
            "pipeline": "private",
            "file": "/nowhere/{time:%Y-%m-%d}.jsonl",
            "webhook": WEBHOOK,
            "params": {"hypothesis_template": f"{SECRET} {{}}"},
        }
    },
}
WITHOUT = {
    "devices",
    "home",
    "log_file",
    "simulated_clock",
    "log_format",
    "log_level",
    "source_roots",
    "tenants",
    "webhook_allowed_hosts",
    "serve_host",
    "metrics_host",
    "serve_tls_cert",
    "serve_tls_key",
    "cors_origins",
    "serve_trusted_proxies",
}

# How the database and Redis are reached, or not; SQLITE, POSTGRESQL and REDIS stand for what is there.
UNREACHABLE = f"redis://:{SECRET}@127.0.0.1:1/0"
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "sqlite": ("SQLITE", f"unix://:{SECRET}@/nowhere/redis.sock"),
    "postgresql": (f"POSTGRESQL?password={SECRET}&sslpassword={SECRET}", f"REDIS:{SECRET}"),
    "no server": (f"postgresql://u:{SECRET}@127.0.0.1:1/db", UNREACHABLE),
    "no server, by libpq's words": (f"postgresql://127.0.0.1:1/db?user=u&password={SECRET}", UNREACHABLE),
    "no server, unescaped": (f"postgresql://u:/#?[:{SECRET}@127.0.0.1:1/db", UNREACHABLE),
    "no such database": (f"POSTGRESQL_{SECRET[:3]}?password={SECRET}", UNREACHABLE),
    "no tables": ("sqlite:////dev/null", UNREACHABLE),
    "an option's value": (f"postgresql://u:{SECRET}@127.0.0.1:1/db?connect_timeout={SECRET}", UNREACHABLE),
    "malformed port": (f"postgresql://u:{SECRET}@h:port/db", UNREACHABLE),
    "unescaped @": (f"postgresql://u:{SECRET}@{SECRET}@h/db", UNREACHABLE),
    "unknown scheme": (f"mysql://u:{SECRET}@h/db", UNREACHABLE),
    "a file with a key": (f"sqlite:////dev/null?key={SECRET}", UNREACHABLE),
    "keywords": (f"host=h password={SECRET}", UNREACHABLE),
    "malformed Redis": ("SQLITE", f"redis://:{SECRET}/@h/0"),
    "Redis with an option": ("SQLITE", f"rediss://h/0?password={SECRET}"),
    "sentinel": ("SQLITE", f"sentinel://:{SECRET}@h:26379/0"),
}


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """All that there are, by their words."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def test_every_command_has_a_case() -> None:
    assert CASES.keys() == set(commands(batchmill.cli))


def test_every_setting_that_can_hold_a_secret_has_a_case() -> None:
    plain = {"int", "float", "bool", "int | None", "float | None"}
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    texts = {name for name, kind in kinds.items() if getattr(kind, "__name__", str(kind)) not in plain}

    assert texts - WITHOUT == SETTINGS.keys()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run: with inputs, a source, and a batchmill.toml with a secret in each setting."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(registry, "_specs", {})
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"id": place, "text": f"{TEXT} {place}", "meta": {SECRET: 1}}) + "\n" for place in range(3))
    )
    (tmp_path / "bad.jsonl").write_text(f'{{"text": "{SECRET}"\n{{"text": ["{SECRET}"]}}\n{{"text": "good"}}\n')
    pairs = [{"query": f"{TEXT} {SECRET}", "texts": [f"{SECRET} {TEXT}"]}, {"query": SECRET, "texts": [SECRET, 1]}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    shop = f"sqlite:///{tmp_path / 'shop.db'}"
    with closing(Database(shop)) as database, database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE tickets (id INTEGER, body TEXT, region TEXT)")
        connection.exec_driver_sql(f"INSERT INTO tickets VALUES (1, '{TEXT}', 'x')")
    for name, value in SETTINGS.items():
        if value is not None:
            said = value if isinstance(value, str) else json.dumps(value).replace("SHOP", shop)
            monkeypatch.setenv(f"BATCHMILL_{name.upper()}", said)
    monkeypatch.setenv("HF_TOKEN", f"hf_{SECRET}")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("BATCHMILL_REDIS_TIMEOUT_SECONDS", "0.5")
    return folder


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that would run for long end at once."""
    monkeypatch.setattr(running, "supervise", lambda *_a, **_k: 0)
    monkeypatch.setattr(maintain, "threading", SimpleNamespace(Event=_Ended))
    monkeypatch.setattr(serving, "serve", lambda _context, _sockets, _instance, announce: announce() or 0)
    monkeypatch.setattr(sandbox, "run_up", _not_running)
    monkeypatch.setattr(task_check, "run_checks", lambda *_: iter([CheckResult("loading", "ok", "")]))


class _Ended:
    def set(self) -> None: ...

    def wait(self, _seconds: float | None = None) -> bool:
        return True

    is_set = wait


def _not_running(*_: object) -> Any:
    raise Unreachable("nothing is started in this test")


def run(command: str, arguments: Sequence[str], **stands_for: str) -> Result:
    words = [*command.split(), *(stands_for.get(word, word) for word in arguments)]
    return CliRunner().invoke(batchmill.cli, words)


def problems(command: str, arguments: Sequence[str], result: Result) -> Iterator[str]:
    """What is wrong with what a command wrote."""
    written = f"{result.stdout}\n{result.stderr}"
    never = [SECRET, KEY.removeprefix("whsec_")[:20], "defect", "unexpected"]
    never += [] if command in SHOW_TEXTS else [TEXT]
    never += [] if command == "pipelines" else [PATTERN]
    never += [] if command == "results" else [f"{NUMBER:.4f}", str(NUMBER)]
    for word in never:
        if word in written:
            yield f"{word} is in {command} {arguments}:\n{written}"
    if result.stderr.rstrip().endswith(":"):
        yield f"a colon ends {command} {arguments}:\n{result.stderr}"


def reached(where: str, request: pytest.FixtureRequest) -> str:
    """A URL with what is there put in."""
    for word, fixture in (("SQLITE", "sqlite_url"), ("POSTGRESQL", "postgresql_url")):
        if where.startswith(word):
            return where.replace(word, str(request.getfixturevalue(fixture)))
    if where.startswith("REDIS:"):
        server: RedisDatabase = request.getfixturevalue("valkey_server")
        return server.url.replace("://", f"://{where.removeprefix('REDIS')}@")
    return where


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_command_writes_it(
    name: str, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database_url, redis_url = (reached(where, request) for where in ENVIRONMENTS[name])
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("BATCHMILL_LOG_FORMAT", "console" if len(name) % 2 else "json")
    monkeypatch.setenv("BATCHMILL_LOG_LEVEL", "debug")
    monkeypatch.setenv("BATCHMILL_DEBUG", "1")
    stands_for = {"IN": str(tmp_path / "in.jsonl"), "BATCH": "batch_none", "ENDED": "batch_none", "KEY": "none"}
    stands_for |= {"BAD": str(tmp_path / "bad.jsonl"), "PAIRS": str(tmp_path / "pairs.jsonl")}
    codes, found, secrets = {}, [], []
    for command, cases in CASES.items():
        for arguments in cases:
            result = run(command, arguments, **stands_for)
            found += problems(command, arguments, result)
            codes[(command, *arguments)] = result.exit_code
            if arguments == ("IN", *ZERO_SHOT) and result.exit_code == 0:
                stands_for["BATCH"] = result.stdout.strip()
                _land(stands_for["BATCH"])
            elif arguments == KEPT_KEYS and result.exit_code == 0:
                stands_for["ENDED"] = json.loads(result.stdout)["id"]
                _land(stands_for["ENDED"], has_ended=True)
            elif command == "keys create" and "--json" in arguments and result.exit_code == 0:
                created = json.loads(result.stdout)
                stands_for["KEY"] = created["id"]
                secrets.append(created["key"].split("_", 2)[2])
            elif secrets:
                found += [f"a key is in {command} {arguments}" for secret in secrets if secret in result.output]
    assert not found, "\n\n".join(found)
    if name in ("sqlite", "postgresql"):  # so that these have come to what they are for
        assert {command for (command, *_), code in codes.items() if code == 0} >= CASES.keys() - UNDONE
        assert 0 in {code for words, code in codes.items() if words[1:3] == ("--from", "ENDED")}
    _check_files(folder, tmp_path)


def _land(batch_id: str, *, has_ended: bool = False) -> None:
    with closing(Database(Settings.load().resolved_database_url)) as database:
        vector = struct.pack("<2f", NUMBER, -NUMBER)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "guard_blocked"), (2, vector)])
        is_postgresql = database.engine.dialect.name == "postgresql"
        document = "CAST(:document AS jsonb)" if is_postgresql else ":document"
        verdicts = to_json([verdict("words"), verdict("pattern", "redact", spans=1)])
        execute(database, f"UPDATE results SET windows = 1, guards = {document}", document=verdicts)
        original = to_json({"text": f"{TEXT} as submitted"})
        execute(database, f"UPDATE jobs SET redacted = true, original_input = {document}", document=original)
        execute(database, "UPDATE batch_guards SET redacted = 2, device_seconds = 1 WHERE guard = 'pattern'")
        if has_ended:
            fake_worker.end_batch(database, batch_id)


def _check_files(folder: Path, tmp_path: Path) -> None:
    """Nothing that was written has it, but databases and files of results."""
    for path in [*folder.rglob("*"), *(tmp_path / "home").rglob("*")]:
        if path.is_file() and ".db" not in path.name and path.name not in ("out.csv", "errors.jsonl"):
            assert SECRET not in path.read_text(errors="replace"), path


QUOTING = DBAPIError.instance(
    "INSERT …",
    {"text": SECRET},
    psycopg.errors.NotNullViolation(f'null value in column "x"\nDETAIL:  Failing row contains ({SECRET}).'),
    psycopg.Error,
    hide_parameters=False,
)


@pytest.mark.parametrize("error", [QUOTING, ValueError(SECRET), KeyError(SECRET), RuntimeError(SECRET)], ids=repr)
def test_what_a_driver_or_a_parser_quotes_is_not_repeated(
    error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raising(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(schema, "open_database", raising)
    monkeypatch.setattr(schema, "upgrade", raising)
    monkeypatch.setenv("BATCHMILL_DEBUG", "1")
    stands_for = {"IN": str(tmp_path / "in.jsonl"), "BATCH": "batch_none", "ENDED": "batch_none", "KEY": "none"}
    stands_for |= {"BAD": str(tmp_path / "bad.jsonl"), "PAIRS": str(tmp_path / "pairs.jsonl")}
    seen = 0
    for command, cases in CASES.items():
        result = run(command, cases[0], **stands_for)
        assert SECRET not in result.stdout + result.stderr, command
        seen += type(error).__name__ in result.stderr
    assert seen > len(CASES) / 2
    assert isinstance(QUOTING, IntegrityError)


@pytest.mark.parametrize("option", ["--database-url", "--redis-url"])
@pytest.mark.parametrize("how", ["in its place", "after the command", "for a command"])
def test_a_url_among_the_options(option: str, how: str, folder: Path) -> None:
    url = f"postgresql://u:{SECRET}@h:port/db"
    words = {
        "in its place": [option, url, "ls"],
        "after the command": ["ls", f"{option}={url}"],
        "for a command": [url, "ls"],
    }

    result = CliRunner().invoke(batchmill.cli, words[how])

    assert result.exit_code == 2
    assert SECRET not in result.output
    assert os.environ.get("BATCHMILL_DATABASE_URL") is None


@pytest.mark.parametrize(
    "prompt", [f"{{{SECRET}.x}}", f"{{{SECRET}!r}}", f"{{x:{SECRET}}}", f'{{"{SECRET}": 1}}', f"{{{SECRET}", SECRET]
)
def test_a_wrong_prompt_is_not_quoted(prompt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"task": "sentiment-analysis", "model": "bundled:sentiment-analysis", "prompt": prompt}
    monkeypatch.setenv("BATCHMILL_PIPELINES", json.dumps({"mine": entry}))

    result = run("pipelines", ())

    assert result.exit_code == 2
    assert "[pipelines.mine] prompt" in result.stderr
    assert SECRET not in result.output
