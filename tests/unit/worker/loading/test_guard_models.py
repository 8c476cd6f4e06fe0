"""Guard models are loaded beside the pipeline's model, and a guard that can't be loaded keeps the pipeline away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import LoadFailed, ModelError
from models.guards.definition import Guard
from models.pipelines.pipeline import Pipeline
from tests.factories import tiny_encoders
from tests.factories.tiny_models import MAX_POSITIONS, pipeline_for
from worker.loading import guard_models, runtime, shared_weights
from worker.loading.files import snapshots
from worker.loading.runtime import Runtime

Made = Callable[[str], Path]

RULE = Guard(on="input", action="flag", words=("forbidden",))


@pytest.fixture(autouse=True)
def threads_put_back() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.token_classifier(tmp_path_factory.mktemp("tagger") / "bert", "bert")


def model_guard(pipeline: str = "checker", **fields: Any) -> Guard:
    return Guard(**{"on": "input", "action": "fail", "pipeline": pipeline, "label": "LABEL_1", **fields})


def guarded(folder: Path, guards: dict[str, Guard], *entries: Pipeline, **fields: Any) -> Pipeline:
    pipeline = pipeline_for(folder, name="guarded", guards=guards, **fields)
    return pipeline.with_guard_pipelines({entry.name: entry for entry in entries})


def load(pipeline: Pipeline) -> Runtime:
    return runtime.load(pipeline, "cpu", threads=1)


def limits(loaded: Runtime) -> Any:
    return loaded.adapter._limits  # type: ignore[attr-defined]


class TestLoad:
    def test_loads_each_pipeline_of_the_guards_once(self, made: Made, tagger: Path) -> None:
        checker = pipeline_for(made("bert"), name="checker")
        names = pipeline_for(tagger, name="names", task="ner")
        guards = {
            "rule": RULE,
            "first": model_guard(),
            "second": model_guard(threshold=0.9),
            "third": model_guard("names", label="PER"),
        }
        pipeline = guarded(made("distilbert"), guards, checker, names)

        loaded = load(pipeline)

        alone = [load(pipeline_for(made("distilbert"))), load(checker), load(names)]
        assert list(loaded.guards) == ["checker", "names"]
        assert loaded.guards["checker"].version == alone[1].version
        assert loaded.weight_bytes == sum(each.weight_bytes for each in alone)

    def test_a_pipeline_with_rules_alone_has_no_guard_models(self, made: Made) -> None:
        assert load(guarded(made("distilbert"), {"rule": RULE})).guards == {}

    def test_guards_read_whole_texts_whatever_their_pipeline_does_by_itself(self, made: Made) -> None:
        checker = pipeline_for(made("bert"), name="checker", truncation="error", max_length=40, device="cuda:7")

        guard = load(guarded(made("distilbert"), {"first": model_guard()}, checker)).guards["checker"]

        assert (limits(guard).truncation, limits(guard).max_length, limits(guard).stride) == ("stride", 40, 16)
        assert guard.device.type == "cpu"

    def test_a_guards_pipeline_may_set_the_overlap(self, tagger: Path, made: Made) -> None:
        names = pipeline_for(tagger, name="names", task="ner", truncation="stride", stride=5)

        guard = load(guarded(made("distilbert"), {"a": model_guard("names", label=None)}, names)).guards["names"]

        assert limits(guard).stride == 5

    def test_a_pipeline_of_the_same_model_is_loaded_apart(self, made: Made) -> None:
        checker = pipeline_for(made("distilbert"), name="checker", dtype="bfloat16")

        loaded = load(guarded(made("distilbert"), {"first": model_guard()}, checker))

        assert (loaded.version.dtype, loaded.guards["checker"].version.dtype) == ("float32", "bfloat16")
        assert limits(loaded).truncation == "truncate"


class TestFailures:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"model": "/nowhere"}, "/nowhere"),
            ({"task": "ner"}, "is not a model for this task"),
            ({"revision": "sha256:other"}, "but the catalogue pins"),
        ],
    )
    def test_of_a_guard_never_count_against_the_pipelines_model(
        self, made: Made, fields: dict[str, Any], words: str
    ) -> None:
        checker = pipeline_for(made("bert"), name="checker").model_copy(update=fields)
        guards = {"first": model_guard(label=None), "second": model_guard(label=None)}

        with pytest.raises(LoadFailed, match=f"^guards first, second \\(checker\\): .*{words}") as caught:
            load(guarded(made("distilbert"), guards, checker))

        assert not isinstance(caught.value, ModelError)

    def test_a_damaged_file_of_a_guard(self, made: Made, distilbert: Path) -> None:
        (distilbert / "model.safetensors").write_bytes(b"damaged")
        checker = pipeline_for(distilbert, name="checker")

        with pytest.raises(LoadFailed, match=r"^guard first \(checker\): "):
            load(guarded(made("distilbert"), {"first": model_guard()}, checker))

    def test_a_panic_in_a_library(self, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        class Panic(BaseException):
            """What libraries written in Rust raise: no Exception."""

        def fail(pipeline: Pipeline) -> Any:
            raise Panic("a lock is poisoned")

        monkeypatch.setattr(snapshots, "fetch_model_unchecked", fail)
        checker = pipeline_for(made("bert"), name="checker")

        with pytest.raises(LoadFailed, match=r"^guard first \(checker\): .*bert can't be loaded: Panic"):
            load(guarded(made("distilbert"), {"first": model_guard()}, checker))

    def test_an_unknown_label_names_those_that_there_are(self, made: Made) -> None:
        checker = pipeline_for(made("bert"), name="checker")

        with pytest.raises(LoadFailed, match=r"no label 'INJECTION'; set label to one of LABEL_0, LABEL_1"):
            load(guarded(made("distilbert"), {"first": model_guard(label="INJECTION")}, checker))

    def test_a_pipeline_that_the_catalogue_lacks(self, made: Made) -> None:
        with pytest.raises(LoadFailed, match=r"^guard first \(checker\): the catalogue has no such pipeline"):
            load(guarded(made("distilbert"), {"first": model_guard()}))

    def test_the_pipelines_own_model_stays_to_blame_for_itself(self, made: Made, tagger: Path) -> None:
        checker = pipeline_for(made("bert"), name="checker")

        with pytest.raises(ModelError, match="is not a model for this task"):
            load(guarded(tagger, {"first": model_guard()}, checker))


class TestMemory:
    def test_guards_leave_the_device_and_return_with_their_pipeline(
        self, made: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checker = pipeline_for(made("bert"), name="checker")
        loaded = load(guarded(made("distilbert"), {"first": model_guard()}, checker))
        moves: list[tuple[str, str]] = []

        def record(model: torch.nn.Module, target: Any, *, keeps_shared: bool = False) -> None:
            moves.append((type(model).__name__, str(target)))
            assert not keeps_shared

        monkeypatch.setattr(shared_weights, "move_model", record)
        for each in (loaded, *loaded.guards.values()):
            object.__setattr__(each, "device", torch.device("meta"))

        loaded.offload()
        loaded.restore()

        bert, distilbert = "BertForSequenceClassification", "DistilBertForSequenceClassification"
        assert moves == [(bert, "cpu"), (distilbert, "cpu"), (bert, "meta"), (distilbert, "meta")]

    def test_a_guard_that_can_not_move_keeps_its_pipeline(self, made: Made) -> None:
        checker = pipeline_for(made("bert"), name="checker", quantization="int8")
        loaded = load(guarded(made("distilbert"), {"first": model_guard()}, checker))
        assert loaded.can_offload  # on a CPU, where nothing moves

        object.__setattr__(loaded.guards["checker"], "device", torch.device("cuda"))

        assert not loaded.can_offload


@pytest.mark.parametrize(
    ("max_length", "overlap"),
    [(None, None), (8_192, 2_048), (512, 128), (256, 64), (128, 60), (MAX_POSITIONS, 28), (16, 4), (8, 2), (3, 0)],
)
def test_windows_share_a_quarter_or_64_tokens_where_there_is_room(max_length: int | None, overlap: int | None) -> None:
    assert guard_models.default_overlap(max_length) == overlap
