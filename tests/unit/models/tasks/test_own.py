"""Tasks of one's own on the side of submitters: what is registered, and what an input must be."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from models import tasks
from models.errors import InvalidParameters, JobError, SettingsError, UnknownPipeline, UsageError
from models.pipelines.catalogue import Catalogue
from models.pipelines.options.prompt_template import find_batch_spec, find_batch_spec_if_known
from models.pipelines.redaction import redact_parameters
from models.settings import Settings
from models.tasks.own import registry
from models.tasks.own.input_fields import OwnInput
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.own.registry import BrokenTask
from models.tasks.own.task import TaskInput
from producer.dry_run.input_lengths import LengthLimit
from producer.submission.identity.cache_key import output_cache_key
from tests.factories.own_task.installed import PACKAGE, package_on_path, write_metadata

REFERENCE = f"{PACKAGE}.tasks:IRONY"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    with package_on_path(tmp_path, entry_points={"irony": REFERENCE}) as folder:
        yield folder


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    with package_on_path(tmp_path) as folder:
        yield folder


def catalogue(**entries: dict[str, Any]) -> Catalogue:
    return Catalogue.load(Settings.load(pipelines=entries))


def spec() -> OwnTaskSpec:
    found = tasks.find_spec("irony")
    assert isinstance(found, OwnTaskSpec)
    return found


def error_of(raw: object) -> tuple[str, str]:
    with pytest.raises(JobError) as raised:
        spec().normalise(raw)
    return raised.value.code, str(raised.value)


class TestRegistry:
    def test_an_alias_that_the_operator_writes_is_found_before_its_package_was_loaded(self, installed: Path) -> None:
        assert registry.registered() == []

        found = catalogue(mine={"task": "sarcasm", "model": "bundled:sentiment-analysis"})["mine"]

        assert found.task == "irony"

    def test_a_package_is_imported_when_its_task_is_asked_for(self, installed: Path) -> None:
        tasks.find_spec("ner")
        assert f"{PACKAGE}.tasks" not in sys.modules

        assert spec().code_version == "irony-tasks 1.2.0"
        assert tasks.find_spec("sarcasm") is spec()
        assert f"{PACKAGE}.adapter" not in sys.modules

    def test_a_reference_in_the_catalogue_is_recorded_by_the_tasks_name(self, importable: Path) -> None:
        pipeline = catalogue(mine={"task": REFERENCE, "model": "a/b"})["mine"]

        assert (pipeline.task, pipeline.spec.summary) == ("irony", spec().summary)
        assert pipeline.operator_code["task"].startswith("irony_tasks sha256:")

    def test_a_batch_of_a_task_in_the_settings_file_is_understood_by_any_command(self, importable: Path) -> None:
        Path("batchmill.toml").write_text(f'[pipelines.mine]\ntask = "{REFERENCE}"\nmodel = "a/b"\n')

        assert find_batch_spec("irony", {}).name == "irony"

    def test_a_batch_of_a_task_that_is_not_here_can_still_be_shown(self) -> None:
        assert find_batch_spec_if_known("irony", {}) is None
        assert redact_parameters({"style": "plain"})["style"].startswith("sha256:")

    def test_only_the_configuration_names_code(self, importable: Path) -> None:
        with pytest.raises(UsageError, match="there is no task"):
            tasks.find_spec(REFERENCE)

        assert f"{PACKAGE}.tasks" not in sys.modules

    @pytest.mark.parametrize("task", ["gone.tasks:X", "irony", f"{PACKAGE}.tasks:GONE", f"{PACKAGE}.tasks:Reply"])
    def test_an_entry_whose_task_is_not_to_be_had_is_set_aside(self, importable: Path, task: str) -> None:
        loaded = catalogue(mine={"task": task, "model": "a/b"})

        assert "mine" not in loaded
        assert loaded["sentiment-analysis"].task == "sentiment-analysis"
        with pytest.raises(SettingsError, match=r"\[pipelines.mine\] task: ") as raised:
            loaded["mine"]
        assert not isinstance(raised.value, UnknownPipeline)

    def test_a_broken_package_breaks_no_other(self, installed: Path) -> None:
        write_metadata(installed, "broken-tasks", {"broken": "broken_tasks:BROKEN"}, "1.0")
        (installed / "broken_tasks.py").write_text("raise SystemExit(3)\n")

        irony, broken = sorted(registry.load_all(), key=lambda task: isinstance(task, BrokenTask))

        assert irony.name == "irony"
        assert isinstance(broken, BrokenTask)
        assert "broken_tasks can't be imported: SystemExit" in broken.problem

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ('name="ner"', "ner is Batchmill's own ner"),
            ('aliases=("text-classification",)', "text-classification is Batchmill's own sentiment-analysis"),
            ('name="Irony"', "must have small letters"),
            ("api_version=2", "its api_version is 2, and this Batchmill has 1"),
            ('adapter="nowhere"', "its adapter must be a reference"),
            ("input=dict", "derived from batchmill.TaskInput"),
            ("input=TaskInput", "its input has no fields"),
            ("parameters=dict", "derived from batchmill.Parameters"),
            ('example_input={"tags": []}', "its example_input is no input of it: text is missing"),
            ('example_output={"a": object()}', "its example_output is not ready for JSON"),
            ('example_parameters={"digits": 9}', "its example_parameters are wrong"),
        ],
    )
    def test_a_wrong_task_is_refused_with_a_sentence(self, importable: Path, changes: str, words: str) -> None:
        (importable / "changed.py").write_text(
            "from dataclasses import replace\nfrom batchmill import TaskInput\n"
            f"from {PACKAGE}.tasks import IRONY\nCHANGED = replace(IRONY, {changes})\n"
        )

        with pytest.raises(SettingsError, match=words):
            registry.load_reference("changed:CHANGED")
        sys.modules.pop("changed", None)

    def test_an_entry_point_has_the_name_of_its_task(self, tmp_path: Path) -> None:
        message = "is the task irony, but package irony-tasks calls its entry point"
        with package_on_path(tmp_path, entry_points={"humour": REFERENCE}), pytest.raises(SettingsError, match=message):
            tasks.find_spec("humour")

    def test_two_packages_with_a_task_of_one_name_are_named(self, installed: Path) -> None:
        write_metadata(installed, "other-irony", {"irony": "other_irony:OTHER"}, "1.0")

        with pytest.raises(SettingsError, match="several packages have a task irony: irony-tasks and other-irony"):
            tasks.find_spec("irony")
        assert all(isinstance(task, BrokenTask) for task in registry.load_all())

    def test_two_tasks_do_not_share_an_alias(self, installed: Path) -> None:
        (installed / "other_humour.py").write_text(
            f"from dataclasses import replace\nfrom {PACKAGE}.tasks import IRONY\n"
            "OTHER = replace(IRONY, name='humour')\n"
        )
        spec()

        with pytest.raises(SettingsError, match=r"sarcasm is also a name of irony_tasks\.tasks:IRONY"):
            registry.load_reference("other_humour:OTHER")
        sys.modules.pop("other_humour", None)

    def test_a_reference_must_not_take_the_name_of_an_installed_task(self, installed: Path) -> None:
        (installed / "other_irony.py").write_text(
            f"from dataclasses import replace\nfrom {PACKAGE}.tasks import IRONY\nOTHER = replace(IRONY, summary='x')\n"
        )

        loaded = catalogue(mine={"task": "other_irony:OTHER", "model": "a/b"}, same={"task": REFERENCE, "model": "a/b"})

        assert "that package irony-tasks installs" in str(loaded.unusable["mine"])
        assert loaded["same"].task == "irony"
        sys.modules.pop("other_irony", None)

    def test_two_tasks_of_one_name_in_the_catalogue_are_refused(self, importable: Path) -> None:
        (importable / "other_irony.py").write_text(
            f"from dataclasses import replace\nfrom {PACKAGE}.tasks import IRONY\nOTHER = replace(IRONY, summary='x')\n"
        )

        with pytest.raises(SettingsError, match="are both irony; name one otherwise"):
            catalogue(a={"task": REFERENCE, "model": "a/b"}, b={"task": "other_irony:OTHER", "model": "a/b"})
        sys.modules.pop("other_irony", None)


class TestInput:
    def test_an_input_is_stored_with_its_defaults(self, installed: Path) -> None:
        stored = {"text": "ok", "context": None, "tags": [], "weight": 1.0}

        assert spec().normalise({"text": "ok", "more": 1}) == stored
        assert spec().normalise({"text": "ok", "tags": '["a"]', "weight": "2"}) == {
            **stored,
            "tags": ["a"],
            "weight": 2,
        }

    @pytest.mark.parametrize(
        ("raw", "code", "message"),
        [
            ({}, "missing_field", "text is missing; an input needs text"),
            ({"text": 3}, "not_text", "text must be text, not a number"),
            ({"text": " "}, "empty_text", "text is empty; leave the row out or give it text"),
            ({"text": "x", "context": "\0"}, "invalid_text", "context has a NUL character"),
            ({"text": "x", "tags": "private"}, "invalid_field", "tags must be a valid list"),
            ({"text": "x", "tags": ["a", 7]}, "invalid_field", "tags[1] must be a valid string"),
            ({"text": "x", "tags": ["a"] * 4}, "invalid_field", "tags: list must have at most 3 items"),
            ({"text": "x", "tags": ["\ud800"]}, "invalid_text", "half a surrogate pair"),
            ({"text": "x", "weight": -1}, "invalid_field", "weight must be greater than or equal to 0"),
            ({"text": "x", "weight": float("inf")}, "invalid_field", "a number that is not finite"),
            ({"text": "x", "weight": "private"}, "invalid_field", "weight must be a valid number"),
            ({"text": "x", "context": "x"}, "same_text", "text and context are the same; leave context out"),
            ({"text": "x", "tags": ["secret"]}, "invalid_field", "the input does not pass the task's own check"),
            ({"text": "x", "tags": ["y" * 1_000_001]}, "text_too_long", "at most 1,000,000 are taken"),
        ],
    )
    def test_a_bad_input_gets_a_code_and_a_sentence_without_its_content(
        self, installed: Path, raw: dict[str, Any], code: str, message: str
    ) -> None:
        found, sentence = error_of(raw)

        assert (found, message in sentence) == (code, True), sentence
        assert "private" not in sentence
        assert "secret" not in sentence

    def test_every_wrong_field_is_named(self, installed: Path) -> None:
        _, sentence = error_of({"text": "x", "tags": 3, "weight": "much"})

        assert sentence == "tags must be a valid list; weight must be a valid number"

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            ({"author": {"name": "x", "langs": [3]}}, "author.langs[0] must be a valid string"),
            ({"author": {"langs": []}}, "author.name is missing"),
            ({"author": "private"}, "author must be an object"),
            ({"author": '{"name": "private"'}, "author must be an object, and its text is no valid JSON"),
            ({"author": " "}, "author is missing, because its text is blank"),
            ({"author": {"name": "x", "scores": {"private": "y"}}}, "author.scores must be a valid number"),
            ({"author": {"name": "x", "friends": [{}]}}, "author.friends[0].name is missing"),
        ],
    )
    def test_a_wrong_part_of_a_field_is_named_by_its_path(self, raw: dict[str, Any], message: str) -> None:
        class Author(BaseModel):
            name: str
            langs: list[str] = []
            scores: dict[str, float] = {}
            friends: "list[Author] | None" = None

        class Written(TaskInput):
            author: Author

        with pytest.raises(JobError) as raised:
            OwnInput("written", Written).complete(raw)

        assert (raised.value.code, str(raised.value)) == ("invalid_field", message)

    def test_a_bare_text_is_the_only_field_that_is_needed(self, installed: Path) -> None:
        assert spec().normalise("bare")["text"] == "bare"
        assert error_of(["bare"])[0] == "not_text"

    def test_a_prompt_makes_the_text(self, installed: Path) -> None:
        pipeline = catalogue(mine={"task": "irony", "model": "a/b", "prompt": "{title}: {body}"})["mine"]

        assert pipeline.spec.normalise({"title": "a", "body": "b", "weight": "2"})["weight"] == "2"
        with pytest.raises(JobError, match="weight must be"):
            pipeline.spec.normalise({"title": "a", "body": "b", "weight": "-2"})


class TestParameters:
    def test_an_adapter_gets_them_with_defaults(self, installed: Path) -> None:
        assert spec().check_parameters({"digits": 2}) == {"digits": 2}
        assert spec().complete_stored_parameters('{"digits": 2, "prompt": "{x}"}') == {"digits": 2, "style": "plain"}

    @pytest.mark.parametrize("wrong", [{"digits": 99}, {"digit": 1}, {"style": "loud"}, {"digits": float("nan")}])
    def test_wrong_ones_are_refused(self, installed: Path, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameters):
            spec().check_parameters(wrong)

    def test_one_without_a_default_is_set_by_the_entry_or_by_each_batch(self, importable: Path) -> None:
        (importable / "needing.py").write_text(
            "from dataclasses import replace\nfrom batchmill import Parameters\n"
            f"from {PACKAGE}.tasks import IRONY\n"
            "class Needed(Parameters):\n    level: int\n    more: int = 1\n"
            "NEEDING = replace(IRONY, parameters=Needed, example_parameters={'level': 1})\n"
        )

        pipeline = catalogue(mine={"task": "needing:NEEDING", "model": "a/b", "parameters": {"more": 2}})["mine"]

        assert pipeline.check_parameters({"level": 3}) == {"level": 3}
        with pytest.raises(InvalidParameters, match="parameter 'level' is missing"):
            pipeline.check_parameters({})
        with pytest.raises(SettingsError, match="parameter 'more' must be a whole number"):
            catalogue(mine={"task": "needing:NEEDING", "model": "a/b", "parameters": {"more": "x"}})
        sys.modules.pop("needing", None)

    def test_known_choices_may_be_shown(self, installed: Path) -> None:
        spec()

        assert redact_parameters({"style": "verbose"}) == {"style": "verbose"}


def test_the_version_of_the_code_is_part_of_the_settings_and_of_the_cache_key(tmp_path: Path) -> None:
    keys = set()
    for version in ("1.0", "1.1"):
        with package_on_path(tmp_path / version, entry_points={"irony": REFERENCE}, version=version):
            pipeline = catalogue(mine={"task": "irony", "model": "a/b", "revision": "c" * 40})["mine"]
            keys.add((pipeline.settings_hash, output_cache_key(pipeline, {})))

    assert len({settings for settings, _ in keys}) == len({key for _, key in keys}) == 2


def test_a_dry_run_does_not_say_what_becomes_of_a_long_text(importable: Path) -> None:
    pipeline = catalogue(mine={"task": REFERENCE, "model": "a/b", "max_length": 8})["mine"]

    assert LengthLimit.for_pipeline(pipeline, {}) is None


def test_without_the_adapters_package_nothing_is_reused(importable: Path) -> None:
    (importable / "apart.py").write_text(
        f"from dataclasses import replace\nfrom {PACKAGE}.tasks import IRONY\n"
        "APART = replace(IRONY, adapter='only_on_workers:Adapter')\n"
    )

    pipeline = catalogue(mine={"task": "apart:APART", "model": "a/b", "revision": "c" * 40})["mine"]

    assert output_cache_key(pipeline, {}) is None
    sys.modules.pop("apart", None)


def test_a_change_of_any_file_changes_the_version_of_a_package_that_is_not_installed(importable: Path) -> None:
    catalogue(mine={"task": REFERENCE, "model": "a/b"})
    before = spec().code_version

    (importable / PACKAGE / "model.py").write_text("")

    assert spec().code_version != before
