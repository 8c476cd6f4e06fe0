"""Specs of tasks that transformers' own pipelines answer: what is stored or refused, and which parameters pass."""

import json
from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError, UsageError
from models.pipelines.output_settings import output_settings
from models.pipelines.pipeline import Pipeline
from models.pipelines.redaction import redact_pipeline

TABLES, DECISION = tasks.find_spec("table-question-answering"), tasks.find_spec("decision")
GENERIC = tasks.find_spec("transformers:pair-scores")
QUESTIONS = {"refund": {"type": "noul", "instructions": "A refund?"}}


def make_pipeline(**fields: Any) -> Pipeline:
    return Pipeline.model_validate({"name": "made", "task": "transformers:pair-scores", "model": "a/b", **fields})


@pytest.mark.parametrize(
    ("table", "stored"),
    [
        ({"a": [1, None], "b": [True, 2.5]}, {"a": ["1", ""], "b": ["true", "2.5"]}),
        ([{"a": 1}, {"b": "x", "a": "y"}], {"a": ["1", "y"], "b": ["", "x"]}),
        ('{"a": ["x"]}', {"a": ["x"]}),
        ('[{"a": "x"}]', {"a": ["x"]}),
    ],
)
def test_a_table_is_stored_as_columns_of_text(table: Any, stored: Any) -> None:
    assert TABLES.normalise({"table": table, "query": "q"}) == {"table": stored, "query": "q"}


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({}, "invalid_table"),
        ({"a": []}, "invalid_table"),
        ([], "invalid_table"),
        ([{}], "invalid_table"),
        ("no table", "invalid_table"),
        ([["a", "b"]], "invalid_table"),
        ({"a": "x"}, "invalid_table"),
        ({"a": [["x"]]}, "invalid_table"),
        ({"a": ["x"], "b": []}, "invalid_table"),
        ({"a": ["\0"]}, "invalid_text"),
        ({"\ud800": ["x"]}, "invalid_text"),
        ({"a": ["x"] * 20_001}, "table_too_large"),
        ([{f"{number}": 1} for number in range(150)], "table_too_large"),
        ({"a": ["x" * 500_000] * 3}, "text_too_long"),
    ],
)
def test_a_wrong_table_is_refused(table: Any, code: str) -> None:
    with pytest.raises(JobError) as raised:
        TABLES.normalise({"table": table, "query": "q"})
    assert raised.value.code == code


def test_several_questions_about_a_table() -> None:
    table = {"a": ["x"]}

    assert TABLES.normalise({"table": table, "query": '["q", "r"]'})["query"] == ["q", "r"]
    for query in ([], [""], ["q"] * 101, 7):
        with pytest.raises(JobError):
            TABLES.normalise({"table": table, "query": query})


def test_a_decision_takes_its_questions_from_the_input_or_the_parameters() -> None:
    parameters = DECISION.check_parameters({"questions": QUESTIONS})

    assert parameters == {"questions": QUESTIONS}
    assert DECISION.normalise("late again", parameters) == {"state": "late again"}
    row = {"state": {"stars": 1}, "questions": json.dumps(QUESTIONS)}
    assert DECISION.normalise(row) == {"state": {"stars": 1}, "questions": QUESTIONS}
    with pytest.raises(JobError, match="questions is missing"):
        DECISION.normalise("late again")


@pytest.mark.parametrize(
    "questions",
    [
        {},
        "secret",
        {"a": {"type": "secret"}},
        {"a": {"type": "choice"}},
        {"a": {"type": "choice", "criteria": {}}},
        {"a": {"type": "score", "criteria": {"low": None}}},
        {"a": {"type": "noul", "criteria": {"maybe": None}}},
        {"a": {"type": "noul", "assets": "secret.png"}},
        {str(number): {"type": "noul"} for number in range(101)},
    ],
)
def test_wrong_questions_are_refused_without_a_quote(questions: Any) -> None:
    with pytest.raises(JobError) as raised:
        DECISION.normalise({"state": "s", "questions": questions})
    assert "secret" not in str(raised.value)
    with pytest.raises(InvalidParameters):
        DECISION.check_parameters({"questions": questions})


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        ("love", {"text": "love"}),
        ({"inputs": '{"a": [1]}'}, {"inputs": {"a": [1]}}),
        ({"inputs": ["x", None, 1.5]}, {"inputs": ["x", None, 1.5]}),
        ({"inputs": "[no json"}, {"inputs": "[no json"}),
    ],
)
def test_any_pipeline_takes_text_or_json(raw: Any, stored: Any) -> None:
    assert GENERIC.normalise(raw) == stored


def nest(depth: int) -> Any:
    return [nest(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"text": "a", "inputs": 1}, "text_and_inputs"),
        ({}, "missing_field"),
        ({"inputs": {}}, "empty_text"),
        ({"inputs": " "}, "empty_text"),
        ({"inputs": nest(40)}, "invalid_field"),
        ({"inputs": [10**20]}, "invalid_field"),
        ({"inputs": [float("nan")]}, "invalid_field"),
        ({"inputs": [object()]}, "invalid_field"),
        ({"inputs": {"a\0": 1}}, "invalid_text"),
        ({"inputs": ["x" * 600_000] * 2}, "text_too_long"),
        ({"inputs": [0] * 100_001}, "text_too_long"),
        ({"inputs": "[" * 100_000}, "unparsed"),
    ],
)
def test_bounds_of_json(raw: Any, code: str) -> None:
    if code == "unparsed":
        assert GENERIC.normalise(raw) == raw
        return
    with pytest.raises(JobError) as raised:
        GENERIC.normalise(raw)
    assert raised.value.code == code


def test_a_batch_may_set_the_entry_s_parameters_and_no_others() -> None:
    pipeline = make_pipeline(parameters={"top_k": 3, "threshold": 0.5, "join": "a", "labels": ["x"], "flag": True})
    given = {"top_k": 4, "threshold": 1, "join": "b", "labels": ["y", 1, None], "flag": False}

    assert pipeline.check_parameters(given) == given
    assert pipeline.check_parameters({"top_k": None}) == {"top_k": None}
    for wrong in (
        {"other": 1},
        {"top_k": "4"},
        {"top_k": True},
        {"top_k": 10**10},
        {"threshold": float("inf")},
        {"join": "x" * 1_001},
        {"labels": [{"a": 1}]},
        {"flag": 1},
        {"trust_remote_code": True},
    ):
        with pytest.raises(InvalidParameters):
            pipeline.check_parameters(wrong)


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "trust_remote_code",
        "custom_generate",
        "use_fast",
        "tokenizer_kwargs",
        "cache_path",
        "Upper",
        "__class__",
    ],
)
def test_no_entry_sets_what_loads_code_or_files(name: str) -> None:
    with pytest.raises(ValueError, match="can't be set"):
        make_pipeline(parameters={name: "x"})
    with pytest.raises(InvalidParameters, match="can't be set"):
        GENERIC.check_parameters({name: "x"})


def test_an_entry_has_no_objects_as_parameters() -> None:
    with pytest.raises(ValueError, match="parameter 'options'"):
        make_pipeline(parameters={"options": {"a": 1}})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("transformers:fill-mask", "write 'fill-mask'"),
        ("transformers:text-classification", "write 'sentiment-analysis'"),
        ("transformers:translation_en_to_de", "write 'translation'"),
        ("transformers:decision", "write 'decision'"),
        ("transformers:image-classification", "images, sound or video"),
        ("transformers:NAME", "NAME stands for"),
        ("transformers:", "there is no task"),
        ("transformers:../x", "there is no task"),
    ],
)
def test_names_with_another_task_are_refused_with_advice(name: str, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        tasks.find_spec(name)


def test_registered_by_counts_only_where_it_is_set() -> None:
    plain, code = make_pipeline(), make_pipeline(registered_by="json:loads")

    assert "registered_by" not in output_settings(plain)
    assert output_settings(code)["registered_by"] == "json:loads"
    assert plain.settings_hash != code.settings_hash
    assert list(code.operator_code) == ["json:loads"]
    with pytest.raises(ValueError, match="names no object"):
        make_pipeline(registered_by="json")
    with pytest.raises(ValueError, match="registered_by has no effect"):
        make_pipeline(task="fill-mask", registered_by="json:loads")


def test_examples_are_inputs_and_change_no_hash() -> None:
    pipeline = make_pipeline(examples=[{"inputs": {"a": 1}}, {"text": "love"}])

    assert pipeline.spec.example_input == {"inputs": {"a": 1}}
    assert pipeline.settings_hash == make_pipeline().settings_hash
    assert output_settings(pipeline) == output_settings(make_pipeline())
    assert "love" not in str(redact_pipeline(pipeline))
    with pytest.raises(ValueError, match=r"examples\[0\]: text is empty"):
        make_pipeline(examples=[{"text": ""}])
    with pytest.raises(ValueError, match="examples have no effect"):
        make_pipeline(task="fill-mask", examples=[{"text": "love"}])


def test_a_prompt_makes_the_text_of_any_pipeline() -> None:
    pipeline = make_pipeline(prompt="{title}: {body}")

    assert pipeline.template is not None
    assert pipeline.template.render(pipeline.spec.normalise({"title": "a", "body": "b"})) == {"text": "a: b"}
    with pytest.raises(ValueError, match="reads no single text"):
        make_pipeline(task="decision", prompt="{title}")
