"""A batch's guards as `show`, `ls`, `wait`, `watch` and the client show them."""

import json

from click.testing import CliRunner

import batchmill
from batchmill import Client
from models.db import Database
from producer.batches import views
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.guard_rows import insert_guards

PII = {"guard": "pii", "stage": "output", "action": "redact", "passed": 1, "redacted": 1}
INJECTION = {"guard": "injection", "stage": "input", "action": "fail", "passed": 2, "blocked": 1, "device_seconds": 3.0}
SHOWN = [
    {
        "guard": "injection",
        "on": "input",
        "action": "fail",
        "passed": 2,
        "flagged": 0,
        "redacted": 0,
        "blocked": 1,
        "device_seconds": 3.0,
    },
    {
        "guard": "pii",
        "on": "output",
        "action": "redact",
        "passed": 1,
        "flagged": 0,
        "redacted": 1,
        "blocked": 0,
        "device_seconds": 0.0,
    },
]


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(batchmill.cli, words)
    assert result.exit_code == code, result.stderr
    return result.stdout + result.stderr


def test_each_batch_has_its_own_guards_those_of_inputs_first(database: Database) -> None:
    guarded, plain, other = (insert_batch(database, 3) for _ in range(3))
    insert_guards(database, guarded, PII, INJECTION)
    insert_guards(database, other, INJECTION | {"blocked": 7})

    listed = {view.id: view.as_dict()["guards"] for view in views.list_batches(database, 10)}

    assert listed == {guarded: SHOWN, plain: [], other: [SHOWN[0] | {"blocked": 7}]}
    assert json.loads(run("show", guarded, "--json"))["guards"] == SHOWN
    assert json.loads(run("show", plain, "--json"))["guards"] == []
    with Client(database.url) as client:
        guards = client.batch(guarded).guards
    assert [(guard.guard, guard.caught, guard.passed) for guard in guards] == [("injection", 1, 2), ("pii", 1, 1)]


def test_commands_for_people_show_them(database: Database) -> None:
    batch_id = insert_batch(database, 3)
    insert_guards(database, batch_id, PII, INJECTION)
    fake_worker.write_results(database, batch_id, [(0, "guard_blocked"), (1, {"label": "a"}), (2, {"label": "b"})])
    fake_worker.end_batch(database, batch_id)

    shown, waited = run("show", batch_id), run("wait", batch_id, code=3)
    watched = json.loads(run("watch", batch_id, "--json", code=3))

    assert "injection (input): 2 passed, 1 blocked" in shown
    assert "guards took 3.0 s of it (100%)" in shown
    assert "guards: injection 1 blocked; pii 1 redacted" in waited
    assert watched["batch"]["guards"] == SHOWN
    assert watched["failures"] == {"guard_blocked": 1}
