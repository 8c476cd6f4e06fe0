from typing import Any

import pytest

from models import tasks
from models.errors import SettingsError, UnknownPipeline, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from tests.unit.worker.task_checks.test_checks import make_spec
from worker.task_checks import target


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    entry = {
        "task": "ner",
        "model": "bundled:ner",
        "guards": {"words": {"on": "input", "action": "flag", "words": ["x"]}},
    }
    return Catalogue.load(Settings(pipelines={"mine": entry}))


def test_a_pipeline_is_checked_without_its_guards(catalogue: Catalogue) -> None:
    assert catalogue["mine"].guards
    assert target.find_pipeline(catalogue, "mine").guards == {}
    assert target.find_pipeline(catalogue, "mine").name == "mine"


def test_a_task_s_name_finds_a_pipeline_that_has_it(catalogue: Catalogue) -> None:
    assert target.find_pipeline(catalogue, "token-classification").task == "ner"


def test_an_unknown_name_lists_the_pipelines(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownPipeline, match="there is no pipeline 'minee'"):
        target.find_pipeline(catalogue, "minee")


def test_an_entry_whose_task_is_broken_says_why() -> None:
    broken = Catalogue.load(Settings(pipelines={"broken": {"task": "no_such_module:TASK", "model": "bundled:ner"}}))

    with pytest.raises(SettingsError, match="there is no module 'no_such_module' here"):
        target.find_pipeline(broken, "broken")


def test_a_task_without_a_pipeline_says_how_to_add_one() -> None:
    only = Catalogue({"mine": Catalogue.load(Settings())["sample-ner"]})

    with pytest.raises(UsageError, match=r'add \[pipelines.NAME\] with task = "fill-mask"'):
        target.find_pipeline(only, "fill-mask")


SAMPLING = {"do_sample": True, "num_return_sequences": 3}


@pytest.mark.parametrize(
    ("task", "own", "expected"),
    [
        ("ner", {}, {}),
        ("ner", {"aggregation_strategy": "simple"}, {"aggregation_strategy": "simple"}),
        ("summarization", {}, {"do_sample": False, "max_new_tokens": 8}),
        ("text-generation", {"seed": 4}, {"seed": 4, "max_new_tokens": 8}),
        ("text-generation", SAMPLING, {**SAMPLING, "seed": 1, "max_new_tokens": 8}),
    ],
)
def test_parameters_give_equal_answers_if_any_do(task: str, own: dict[str, Any], expected: dict[str, Any]) -> None:
    assert target.choose_parameters(tasks.find_spec(task), own) == expected


def test_a_task_that_always_draws_can_t_be_checked() -> None:
    spec = make_spec(is_random=lambda _parameters: True)

    with pytest.raises(UsageError, match="give it a parameter seed"):
        target.choose_parameters(spec, {})
