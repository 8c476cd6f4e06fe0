import re
from pathlib import Path
from typing import Any

import pytest

from models import tasks
from models.errors import SettingsError, UnknownPipeline
from models.pipelines.builtin import BUILTIN_PIPELINES, EMBEDDING_PIPELINES, GUARD_PIPELINES
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.settings import Settings


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def catalogue(**pipelines: dict[str, Any]) -> Catalogue:
    return Catalogue.load(Settings.load(pipelines=pipelines))


def test_hub_models_are_pinned_by_full_commits() -> None:
    for pipeline in BUILTIN_PIPELINES:
        if pipeline.folder is None:
            assert re.fullmatch("[0-9a-f]{40}", pipeline.revision or ""), pipeline.name


def test_samples_come_with_us() -> None:
    guards = ["sample-prompt-injection", "sample-toxicity", "sample-personal-data"]
    assert catalogue().sample_names == [
        *(f"sample-{task}" for task in tasks.TASKS),
        *guards,
        "sample-guarded-sentiment",
    ]
    assert len(catalogue()) == len(BUILTIN_PIPELINES)


def test_every_task_has_a_default_of_its_name() -> None:
    ours = [name for name in catalogue() if not name.startswith("sample-")]
    others = [pipeline.name for pipeline in (*EMBEDDING_PIPELINES, *GUARD_PIPELINES)]
    assert ours == [*tasks.TASKS, *others]
    assert all(tasks.find_spec(catalogue()[name].task).name == name for name in tasks.TASKS)


def test_an_unknown_one_is_told_which_there_are() -> None:
    with pytest.raises(UnknownPipeline, match=r"no pipeline 'nope'.*sample-sentiment-analysis, .*, sentiment-analysis"):
        catalogue()["nope"]


@pytest.mark.parametrize(
    ("name", "task"),
    [("embeddings", "feature-extraction"), ("embedding", "feature-extraction"), ("reranking", "text-ranking")],
)
def test_another_name_of_a_task_is_understood(name: str, task: str) -> None:
    with pytest.raises(UnknownPipeline, match=f"is {task} meant"):
        catalogue()[name]
    assert catalogue(embeddings={"task": "embeddings", "model": "a/b"})["embeddings"].model == "a/b"
    with pytest.raises(UnknownPipeline, match="is embeddings meant"):
        catalogue(embeddings={"task": "embeddings", "model": "a/b"})["embedding"]


@pytest.mark.parametrize("task", ["feature-extraction", "embeddings"])
def test_a_parameter_beside_the_table_of_parameters_is_told_its_place(task: str) -> None:
    with pytest.raises(
        SettingsError, match=r"pooling is a parameter of feature-extraction; .* parameters = \{ pooling"
    ):
        catalogue(mine={"task": task, "model": "a/b", "pooling": "mean"})


def test_an_entry_is_added() -> None:
    added = catalogue(mine={"task": "text-classification", "model": "me/model", "device": "cuda:1"})["mine"]

    assert (added.task, added.model, added.device, added.folder) == ("sentiment-analysis", "me/model", "cuda:1", None)


def test_an_entry_overrides_only_what_it_names() -> None:
    pipeline = catalogue(**{"sentiment-analysis": {"max_length": 128}})["sentiment-analysis"]

    assert pipeline == BUILTIN_PIPELINES[0].model_copy(update={"max_length": 128})


def test_another_model_does_not_keep_the_pin() -> None:
    pipeline = catalogue(**{"sentiment-analysis": {"model": "me/model"}})["sentiment-analysis"]

    assert pipeline.revision is None


def test_a_folder_is_found_from_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "batchmill.toml").write_text('[pipelines.mine]\ntask = "sentiment-analysis"\nmodel = "./tuned"\n')

    assert Catalogue.load(Settings.load())["mine"].folder == tmp_path / "tuned"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"model": "a/b"}, r"\[pipelines.mine\] task"),
        ({"task": "no-such-task", "model": "a/b"}, "there is no task 'no-such-task'; Batchmill knows"),
        ({"task": "sentiment-analysis"}, r"\[pipelines.mine\] model"),
        ({"task": "sentiment-analysis", "model": "a/b", "device": "tpu"}, r"\[pipelines.mine\] device"),
        ({"task": "fill-mask", "model": "a/b", "truncation": "stride"}, "can't read a text in windows"),
        ({"task": "sentiment-analysis", "model": "a/b", "parameters": {"top_k": 0}}, "top_k"),
        ({"task": "translation_en", "model": "a/b"}, "there is no task 'translation_en'"),
        ({"task": "sentiment-analysis", "model": "a/b", "trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_a_wrong_entry_is_named_with_its_field(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        catalogue(mine=entry)["mine"]


def test_a_pipelines_name_can_be_a_queues() -> None:
    with pytest.raises(SettingsError, match="name"):
        catalogue(**{"My Pipeline": {"task": "sentiment-analysis", "model": "a/b"}})


def test_bundled_models_lie_in_a_folder() -> None:
    sample = Pipeline(name="s", task="sentiment-analysis", model="bundled:sentiment-analysis")

    assert sample.folder is not None
    assert sample.folder.parts[-3:] == ("models", "samples", "sentiment-analysis")


def test_a_task_may_name_its_languages() -> None:
    assert catalogue(mine={"task": "translation_en_to_fr", "model": "a/b"})["mine"].task == "translation_en_to_fr"
