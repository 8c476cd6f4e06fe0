"""Guards in a dry run: which there are, and what the rules among them would catch of the first rows."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import batchmill
from producer.dry_run import guard_trial

SAMPLE = "sample-sentiment-analysis"
GUARDS = {
    "secrets": {"on": "input", "action": "fail", "pattern": "canary[0-9]"},
    "words": {"on": "input", "action": "flag", "words": ["canary7", "blue"]},
    "people": {"on": "output", "action": "redact", "pii": ["email"]},
}
ROWS = ["canary1 blue", "blue", "red", "canary2"]


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_PIPELINES", json.dumps({SAMPLE: {"guards": GUARDS}}))


def submit_dry(tmp_path: Path, *options: str) -> Result:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in [*ROWS, ""]))
    arguments = ["submit", str(path), "-p", SAMPLE, "--dry-run", "--on-invalid", "fail-row", *options]
    result = CliRunner().invoke(batchmill.cli, arguments)
    assert result.exit_code == 0, result.stderr
    return result


def test_rules_are_tried_without_showing_a_text(tmp_path: Path) -> None:
    output = submit_dry(tmp_path).stdout

    assert [line.split(maxsplit=1)[-1] for line in output.splitlines() if "put)" in line] == [
        "secrets (input): 2 of the first 4 rows would be blocked",
        "(input): 1 of the first 4 rows would be flagged",
        "(output): a rule for outputs, which a dry run does not have",
    ]
    assert "canary" not in output


def test_json(tmp_path: Path) -> None:
    document = json.loads(submit_dry(tmp_path, "--json").stdout)

    assert document["guards"] == [
        {"guard": "secrets", "on": "input", "action": "fail", "rows_read": 4, "rows_caught": 2},
        {"guard": "words", "on": "input", "action": "flag", "rows_read": 4, "rows_caught": 1},
        {"guard": "people", "on": "output", "action": "redact", "rows_read": None, "rows_caught": None},
    ]


@pytest.mark.parametrize(("bound", "value"), [("MAX_ROWS", 2), ("MAX_CHARACTERS", 50)])
def test_only_the_first_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    monkeypatch.setattr(guard_trial, bound, value)

    assert json.loads(submit_dry(tmp_path, "--json").stdout)["guards"][0]["rows_read"] == 2


@pytest.mark.parametrize(
    ("limited", "line"),
    [
        ("producer.dry_run.guard_trial.MAX_SECONDS", "the rules are slow, so the rows after these were not tried"),
        (
            "models.guards.patterns.MAX_SECONDS",
            "the last of these rows would fail, because a rule takes too long; those after it were not tried",
        ),
    ],
)
def test_slow_rules_end_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: str, line: str) -> None:
    monkeypatch.setattr(limited, 1e-9)

    output = submit_dry(tmp_path).stdout

    assert "of the first 1 row would be" in output
    assert [text.strip() for text in output.splitlines() if "not tried" in text] == [line]


def test_guards_of_pipelines_are_listed_with_patterns_and_without_words() -> None:
    listed = CliRunner().invoke(batchmill.cli, ["pipelines"]).stdout
    as_json = CliRunner().invoke(batchmill.cli, ["pipelines", "--json"]).stdout

    lines = [" ".join(line.split()) for line in listed.splitlines()]
    guards = lines[lines.index("PIPELINE GUARD ON ACTION CATCHES") + 1 :]
    assert [line for line in guards if line.startswith(f"{SAMPLE} ")] == [
        f"{SAMPLE} secrets input fail pattern canary[0-9]",
        f"{SAMPLE} words input flag 2 words",
        f"{SAMPLE} people output redact personal data: email",
    ]
    [entry] = [entry for entry in json.loads(as_json)["data"] if entry["name"] == SAMPLE]
    assert (entry["guards"]["secrets"]["pattern"], entry["guards"]["words"]["words"]) == ("canary[0-9]", 2)
    assert "canary7" not in listed + as_json
