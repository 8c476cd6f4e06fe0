"""Guards of the catalogue: the pipelines that they name can guard, are pinned, and know their labels."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import SettingsError
from models.guards.definition import Guard
from models.pipelines import catalogue as catalogue_module
from models.pipelines import guard_checks, model_files
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.settings import Settings

SAMPLE = {"task": "sentiment-analysis", "model": "bundled:sentiment-analysis"}
RULE = {"on": "input", "action": "fail", "words": ["forbidden"]}
MODEL_GUARD = {"on": "input", "action": "fail", "pipeline": "checker", "label": "NEGATIVE"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def catalogue(guard: Any = MODEL_GUARD, **pipelines: dict[str, Any]) -> Catalogue:
    guarded = {**SAMPLE, "guards": {"check": guard}}
    return Catalogue.load(Settings.load(pipelines={"guarded": guarded, "checker": SAMPLE, **pipelines}))


def test_a_pipeline_has_the_pipelines_of_its_guards() -> None:
    loaded = catalogue()

    assert loaded["guarded"].guard_pipelines == {"checker": loaded["checker"]}
    assert loaded["checker"].guard_pipelines == {}
    assert loaded["guarded"].model_copy(update={"revision": "b" * 40}).guard_pipelines.keys() == {"checker"}
    assert catalogue(RULE)["guarded"].guard_pipelines == {}


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ({**RULE, "on": "inputs"}, "on must be input or output"),
        ({"on": "input", "action": "fail"}, "a guard needs one of pipeline, pattern"),
        ({**RULE, "bogus": 1}, "there is no field 'bogus'"),
        ("flag", "must be a table"),
        ({**MODEL_GUARD, "pipeline": "cheker"}, "no pipeline 'cheker'; is checker meant"),
        ({**MODEL_GUARD, "pipeline": "guarded"}, "can't guard itself"),
        ({**MODEL_GUARD, "pipeline": "fill-mask"}, "only text-classification and token-classification can guard"),
        ({"on": "input", "action": "fail", "pipeline": "checker"}, "label is missing"),
        ({**MODEL_GUARD, "action": "redact"}, "action can't be redact.*token-classification"),
    ],
)
def test_a_wrong_guard_is_named(guard: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[pipelines.guarded.guards.check\] .*{words}"):
        catalogue(guard)


@pytest.mark.parametrize(
    ("checker", "words"),
    [
        ({"model": "me/model"}, "must pin its model; set revision"),
        ({"model": "me/model", "revision": "main"}, "must pin its model; set revision"),
        ({"tokenizer": "me/model"}, "must pin its tokenizer; set tokenizer_revision"),
        ({"guards": {"inner": RULE}}, "has guards itself"),
        ({"prompt": "Title: {title}"}, "has a prompt"),
    ],
)
def test_a_guards_pipeline_is_pinned_and_unguarded(checker: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[pipelines.guarded.guards.check\] pipeline: checker .*{words}"):
        catalogue(checker={**SAMPLE, **checker})


def test_a_pinned_model_of_the_hub_and_a_tagger_can_guard() -> None:
    pinned = {**SAMPLE, "model": "me/model", "revision": "a" * 40}

    assert catalogue(checker=pinned)["guarded"].guard_pipelines["checker"].revision == "a" * 40
    assert catalogue({"on": "input", "action": "redact", "pipeline": "sample-ner"})


def test_an_entry_of_the_same_name_keeps_the_built_in_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = Pipeline(**{"name": "safe", **SAMPLE, "guards": {"first": RULE, "second": RULE}})
    monkeypatch.setattr(catalogue_module, "BUILTIN_PIPELINES", (built_in,))
    changed = {**RULE, "action": "flag"}

    def guards(**fields: Any) -> dict[str, Guard]:
        return Catalogue.load(Settings.load(pipelines={"safe": fields}))["safe"].guards

    assert guards(max_length=8) == built_in.guards
    assert guards(guards={}) == built_in.guards
    merged = guards(guards={"first": changed, "third": RULE})
    assert [(name, guard.action) for name, guard in merged.items()] == [
        ("first", "flag"),
        ("second", "fail"),
        ("third", "fail"),
    ]


@pytest.mark.parametrize(
    ("task", "label", "is_known"),
    [
        ("sentiment-analysis", "B-PER", True),
        ("sentiment-analysis", "PER", False),
        ("ner", "PER", True),
        ("ner", "B-PER", False),
        ("sentiment-analysis", "O", True),
        ("ner", "O", False),
        ("ner", None, True),
    ],
)
def test_labels_are_those_that_the_task_gives(task: str, label: str | None, is_known: bool) -> None:
    entry = Pipeline(name="checker", task=task, model="a/b")
    guard = Guard(on="input", action="flag", pipeline="checker", label=label)

    problem = guard_checks.find_unknown_label(guard, entry, ["O", "B-PER", "I-PER"])

    assert (problem is None) is is_known
    assert is_known or f"set label to one of {'PER' if task == 'ner' else 'O, B-PER, I-PER'}" in str(problem)


def test_an_unknown_label_is_reported_if_the_files_are_here() -> None:
    model_files.check_guards(catalogue()["guarded"])

    with pytest.raises(SettingsError, match=r"\[pipelines.guarded.guards.check\] label: .* no label 'SPAM'.*NEGATIVE"):
        model_files.check_guards(catalogue({**MODEL_GUARD, "label": "SPAM"})["guarded"])


def test_a_missing_folder_of_a_guard_is_reported() -> None:
    with pytest.raises(SettingsError, match=r"\[pipelines.checker\] model: .* no folder /nowhere .*guards of guarded"):
        model_files.check_folder(catalogue(checker={**SAMPLE, "model": "/nowhere"})["guarded"])


def test_the_settings_hash_covers_guards_and_their_pipelines() -> None:
    base = catalogue()["guarded"].settings_hash
    others = [
        catalogue({**MODEL_GUARD, "threshold": 0.9}),
        catalogue({**MODEL_GUARD, "action": "flag"}),
        catalogue(RULE),
        catalogue(checker={**SAMPLE, "dtype": "bfloat16"}),
        catalogue(checker={**SAMPLE, "parameters": {"function_to_apply": "sigmoid"}}),
        catalogue(checker={**SAMPLE, "model": "me/model", "revision": "a" * 40}),
        catalogue(checker={**SAMPLE, "model": "me/model", "revision": "b" * 40}),
        catalogue(guarded=SAMPLE),
    ]

    assert len({loaded["guarded"].settings_hash for loaded in others} | {base}) == len(others) + 1
    assert catalogue()["guarded"].settings_hash == base
