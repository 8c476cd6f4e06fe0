"""Pipelines are named by position, by --pipelines or by -p, with the same meaning."""

import click
import pytest
from click.testing import CliRunner

import batchmill
from worker.cli import pipeline_names


@click.command()
@pipeline_names.several(default="all")
def any_number(names: list[str]) -> None:
    click.echo(" ".join(names))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["a", "b"], "a b"),
        (["--pipelines", "a,b"], "a b"),
        (["--pipelines", " a , ,b,"], "a b"),
        (["-p", "a", "--pipeline", "b"], "a b"),
        (["a,b"], "a b"),
        (["a", "-p", "b", "--pipelines", "a,c"], "a c b"),
        ([], ""),
    ],
)
def test_every_spelling_names_pipelines(arguments: list[str], names: str) -> None:
    result = CliRunner().invoke(any_number, arguments)

    assert result.output.split() == names.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker"], "name at least one pipeline"),
        (["worker", "-p", ","], "name at least one pipeline"),
        (["worker", "sample-sentimentanalysis"], "is sample-sentiment-analysis meant?"),
        (["up", "-p", "sample-sentimentanalysis"], "is sample-sentiment-analysis meant?"),
        (["models", "show"], "name one pipeline"),
        (["models", "show", "a", "-p", "b"], "name one pipeline"),
        (["models", "pull", "-p", "ner-sample"], "is sample-ner meant?"),
    ],
)
def test_a_wrong_name_is_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(batchmill.cli, arguments)

    assert result.exit_code == 2
    assert message in result.stderr
