"""`pipelines` and `tasks`: what there is to submit to."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models import tasks
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.options.generation_limits import GenerationLimits
from models.tasks.generic import GENERIC_SPECS


def stdout(*arguments: str) -> str:
    result = CliRunner().invoke(batchmill.cli, arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_pipelines_lists_the_catalogue() -> None:
    catalogue, guards = stdout("pipelines").split("\n\n")
    lines = catalogue.splitlines()

    assert [line.split()[0] for line in lines] == ["PIPELINE", *(pipeline.name for pipeline in BUILTIN_PIPELINES)]
    assert BUILTIN_PIPELINES[0].model in lines[1]
    assert {line.split()[0] for line in guards.splitlines()} == {"PIPELINE", "sample-guarded-sentiment"}
    (first, *_) = json.loads(stdout("pipelines", "--json"))["data"]
    assert first["object"] == "pipeline"
    assert first["revision"] == BUILTIN_PIPELINES[0].revision


def test_tasks_lists_all_tasks() -> None:
    assert [line.split()[0] for line in stdout("tasks").splitlines()] == ["TASK", *tasks.ALL_NAMES]
    assert [task["name"] for task in json.loads(stdout("tasks", "--json"))["data"]] == tasks.ALL_NAMES


def test_a_task_is_explained() -> None:
    for spec in (*tasks.SPECS, *GENERIC_SPECS):
        name, explained = spec.name, stdout("tasks", spec.name)
        for word in (*spec.parameters.model_fields, *(field.name for field in spec.fields), spec.output_description):
            assert word in explained
        assert json.loads(stdout("tasks", name, "--json"))["example"]["input"] == spec.example_input
        assert ("overlapping windows" in explained) is spec.supports_stride
        assert ("mean, max, first, weighted" in explained) is spec.aggregates_windows


def test_pipelines_of_transformers_are_no_broken_own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '[pipelines.pairs]\ntask = "transformers:pairs"\nmodel = "made/pairs"\n'
    (tmp_path / "batchmill.toml").write_text(entry, "utf-8")
    monkeypatch.chdir(tmp_path)

    assert [line.split()[0] for line in stdout("tasks").splitlines()] == ["TASK", *tasks.ALL_NAMES]
    assert "transformers:pairs" in stdout("pipelines")
    assert "that the operator's catalogue entry lists under parameters" in stdout("tasks", "transformers:pairs")


def test_bounds_are_shown() -> None:
    assert "integer at least 1, at most 10,000 or null" in stdout("tasks", "text-classification")
    assert "unset: what the model names, or else 256" in stdout("tasks", "text-generation")


def test_the_limits_in_force_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "batchmill.toml").write_text("[pipelines.text-generation.limits]\nmax_new_tokens = 700\n", "utf-8")
    monkeypatch.chdir(tmp_path)

    line = next(line for line in stdout("tasks", "text-generation").splitlines() if line.startswith("text-generation "))
    limits = json.loads(stdout("tasks", "text-generation", "--json"))["limits"]

    assert line.split() == ["text-generation", "700", "30.0", "32,000", "4"]
    assert limits["text-generation"]["max_new_tokens"] == 700
    assert limits["sample-text-generation"] == GenerationLimits().model_dump()
    assert json.loads(stdout("tasks", "ner", "--json"))["limits"] == {}


def test_an_unknown_task_is_exit_2() -> None:
    result = CliRunner().invoke(batchmill.cli, ["tasks", "nope"])

    assert result.exit_code == 2
    assert "Batchmill knows: sentiment-analysis" in result.stderr
