"""The catalogue explains every code that the documentation lists, and no other."""

import re
from pathlib import Path

import pytest

from models import error_catalogue
from models.error_catalogue import BATCHES, JOBS, Explanation, Remedy

OUTPUT = (Path(__file__).parents[3] / "docs" / "reference" / "output.md").read_text("utf-8")
SECTION = OUTPUT.partition("## Codes of failed jobs")[2].partition("\n## ")[0]


def test_the_codes_of_jobs_are_those_of_the_documentation() -> None:
    first_cells = [line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `")]
    documented = {code for cell in first_cells for code in re.findall(r"`([a-z_]+)`", cell)}

    assert len(documented) > 60
    assert JOBS.keys() == documented


def test_the_codes_of_batches_are_those_of_the_documentation() -> None:
    section = OUTPUT.partition("## Codes of failed batches")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))

    assert BATCHES.keys() == documented


@pytest.mark.parametrize("explanation", [*JOBS.values(), *BATCHES.values()], ids=[*JOBS, *BATCHES])
def test_an_explanation_has_a_title_and_two_sentences(explanation: Explanation) -> None:
    assert 0 < len(explanation.title) <= 40
    assert not explanation.title.endswith(".")
    assert explanation.cause.endswith(".")
    assert explanation.advice.endswith(".")


def test_a_code_of_an_own_task_is_explained_as_one() -> None:
    explanation = error_catalogue.explain("no_such_product")

    assert explanation.title == "No such product"
    assert explanation.remedy is Remedy.CHANGE
    assert not explanation.is_worth_retrying


def test_a_failure_without_a_code_is_explained() -> None:
    assert error_catalogue.explain(None).title == "Unknown error"


def test_a_job_of_a_batch_that_failed_as_a_whole_is_explained() -> None:
    assert error_catalogue.explain("model_missing") is BATCHES["model_missing"]


def test_a_code_of_jobs_and_batches_has_an_explanation_for_each() -> None:
    assert error_catalogue.explain_batch("too_many_failures") is not error_catalogue.explain("too_many_failures")
    assert error_catalogue.explain_batch("invalid_row") is error_catalogue.explain("invalid_row")
