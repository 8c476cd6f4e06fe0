"""Snapshots: exactly which files a pipeline uses, and which are refused."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import HfHubHTTPError

from models.errors import LoadFailed, MissingModel, ModelError, Unreachable
from models.pipelines import folder_hash
from models.pipelines import pipeline as entries
from models.pipelines.folder_hash import content_hash
from models.pipelines.pipeline import Pipeline
from tests.factories.tiny_models import pipeline_for
from worker.loading.files import snapshots
from worker.loading.files.snapshots import Snapshot

REPOSITORY = "made-org/made-model"
COMMIT, OTHER_COMMIT = "1234567890abcdef" * 2 + "12345678", "fedcba09" * 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's files as far as a snapshot looks at them."""
    return write_model(tmp_path / "model")


def write_model(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


class TestFolder:
    def test_is_used_as_it_is(self, folder: Path) -> None:
        assert snapshots.fetch_model(pipeline_for(folder)) == Snapshot(str(folder), folder, content_hash(folder))

    def test_may_be_pinned_to_its_content(self, folder: Path) -> None:
        pinned = pipeline_for(folder, revision=content_hash(folder))
        assert snapshots.fetch_model(pinned).revision == pinned.revision

        (folder / "config.json").write_text('{"model_type": "bert", "changed": true}')

        with pytest.raises(LoadFailed, match=r"has content sha256:\w+ here, but the catalogue pins sha256:"):
            snapshots.fetch_model(pinned)

    def test_may_be_one_of_batchmill_s_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(entries, "SAMPLES_FOLDER", tmp_path)
        write_model(tmp_path / "tiny")

        found = snapshots.fetch_model(Pipeline(name="made", task="sentiment-analysis", model="bundled:tiny"))

        assert (found.name, found.folder) == ("bundled:tiny", tmp_path / "tiny")

    @pytest.mark.parametrize("key", ["auto_map", "use_kernels", "custom_pipelines"])
    def test_that_asks_to_run_code_is_refused(self, tmp_path: Path, key: str) -> None:
        asking = write_model(tmp_path / "asking", **{key: {"AutoModel": "code.Model"}})

        with pytest.raises(ModelError, match=rf"asks to run its own code \({key} in config.json\); that is refused"):
            snapshots.fetch_model(pipeline_for(asking))

    @pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "tf_model.h5"])
    def test_without_safetensors_is_refused(self, folder: Path, weights: str) -> None:
        (folder / "model.safetensors").rename(folder / weights)

        with pytest.raises(ModelError, match=r"has no safetensors weights, and other formats can run code"):
            snapshots.fetch_model(pipeline_for(folder))

    def test_without_a_config_is_no_model(self, folder: Path) -> None:
        (folder / "config.json").unlink()

        with pytest.raises(ModelError, match=r"has no config.json; it is not a transformers model"):
            snapshots.fetch_model(pipeline_for(folder))

    @pytest.mark.parametrize(("config", "reason"), [("{", "can't be read"), ("[]", "is not an object")])
    def test_with_a_broken_config_says_so(self, folder: Path, config: str, reason: str) -> None:
        (folder / "config.json").write_text(config)

        with pytest.raises(ModelError, match=f"config.json {reason}"):
            snapshots.fetch_model(pipeline_for(folder))

    def test_that_is_gone_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="there is no model folder"):
            snapshots.fetch_model(pipeline_for(tmp_path / "gone"))


class TestTokenizer:
    def test_is_the_model_s_own_by_default(self, folder: Path) -> None:
        entry = pipeline_for(folder)
        own = snapshots.fetch_model(entry)

        assert snapshots.fetch_tokenizer(entry, own) is own

    def test_may_be_another_folder(self, folder: Path, tmp_path: Path) -> None:
        words = write_model(tmp_path / "words", kind="words")
        entry = pipeline_for(folder, tokenizer=str(words))

        found = snapshots.fetch_tokenizer(entry, snapshots.fetch_model(entry))

        assert found == Snapshot(str(words), words, content_hash(words))

    def test_may_be_one_of_batchmill_s_own(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(entries, "SAMPLES_FOLDER", tmp_path / "samples")
        words = write_model(tmp_path / "samples" / "tiny")
        entry = pipeline_for(folder, tokenizer="bundled:tiny")

        found = snapshots.fetch_tokenizer(entry, snapshots.fetch_model(entry))

        assert found == Snapshot("bundled:tiny", words, content_hash(words))

    def test_may_be_pinned_to_its_content(self, folder: Path, tmp_path: Path) -> None:
        words = write_model(tmp_path / "words")
        entry = pipeline_for(folder, tokenizer=str(words), tokenizer_revision=content_hash(words))
        own = snapshots.fetch_model(entry)
        assert snapshots.fetch_tokenizer(entry, own).revision == content_hash(words)

        (words / "tokenizer.json").write_text('{"changed": true}')

        with pytest.raises(LoadFailed, match="but the catalogue pins"):
            snapshots.fetch_tokenizer(entry, own)


class HubCache:
    """The Hub's cache on disk, as `huggingface_hub` lays it out, with no Hub behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, commit: str, *, main: bool = False, repository: str = REPOSITORY) -> Path:
        place = self.folder / f"models--{repository.replace('/', '--')}"
        if main:
            (place / "refs").mkdir(parents=True, exist_ok=True)
            (place / "refs" / "main").write_text(commit)
        return write_model(place / "snapshots" / commit)


def hub(model: str = REPOSITORY, **other: Any) -> Pipeline:
    return Pipeline(**{"name": "made", "task": "sentiment-analysis", "model": model, **other})


class TestHub:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
        # The variables HF_HUB_CACHE and HF_HUB_OFFLINE, as they are after huggingface_hub has read them.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return HubCache(tmp_path / "hub")

    def test_s_name_without_a_pin_becomes_its_commit(self, cache: HubCache) -> None:
        cache.add(OTHER_COMMIT)
        newest = cache.add(COMMIT, main=True)

        assert snapshots.fetch_model(hub()) == Snapshot(REPOSITORY, newest, COMMIT)

    def test_s_pinned_commit_is_used_whatever_is_newest(self, cache: HubCache) -> None:
        pinned = cache.add(OTHER_COMMIT)
        cache.add(COMMIT, main=True)

        assert snapshots.fetch_model(hub(revision=OTHER_COMMIT)) == Snapshot(REPOSITORY, pinned, OTHER_COMMIT)

    @pytest.mark.parametrize("revision", [None, COMMIT, "a-branch"])
    def test_being_away_with_nothing_in_the_cache_may_pass(self, cache: HubCache, revision: str | None) -> None:
        with pytest.raises(Unreachable, match=r"made-org/made-model is not in the local cache") as caught:
            snapshots.fetch_model(hub(revision=revision))

        assert caught.value.retryable
        assert "\n" not in str(caught.value)

    def test_being_away_with_another_commit_in_the_cache_may_pass(self, cache: HubCache) -> None:
        cache.add(OTHER_COMMIT, main=True)

        with pytest.raises(Unreachable, match="is not in the local cache"):
            snapshots.fetch_model(hub(revision=COMMIT))

    def test_s_cache_must_name_commits(self, cache: HubCache) -> None:
        cache.add("not-a-commit", main=True)

        with pytest.raises(ModelError, match=r"resolved to 'not-a-commit', which is no commit; pin a full commit hash"):
            snapshots.fetch_model(hub())

    def test_s_files_are_checked_like_a_folder_s(self, cache: HubCache) -> None:
        folder = cache.add(COMMIT, main=True)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

        with pytest.raises(ModelError, match=f"{REPOSITORY} has no safetensors weights"):
            snapshots.fetch_model(hub())

    def test_may_have_a_tokenizer_of_its_own_revision(self, cache: HubCache) -> None:
        cache.add(COMMIT, main=True)
        words = cache.add(OTHER_COMMIT, repository="made-org/words")
        entry = hub(tokenizer="made-org/words", tokenizer_revision=OTHER_COMMIT)

        found = snapshots.fetch_tokenizer(entry, snapshots.fetch_model(entry))

        assert found == Snapshot("made-org/words", words, OTHER_COMMIT)

    @pytest.mark.parametrize("name", ["neither/a/folder", "--nor--a--name", "spaces in it"])
    def test_never_hears_of_what_is_no_name(self, cache: HubCache, name: str) -> None:
        with pytest.raises(ModelError, match=r"is neither a folder nor a Hub id"):
            snapshots.fetch_model(hub(name))


class Response:
    """As much of an HTTP response as an error of the Hub needs."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request = None

    def __init__(self, status: int) -> None:
        self.status_code = status


class TestHubErrors:
    def answer(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        def refuse(*_: Any, **__: Any) -> str:
            raise HfHubHTTPError(f"{status} from the Hub\nwith details", response=Response(status))  # type: ignore[arg-type]

        monkeypatch.setattr(snapshots, "snapshot_download", refuse)

    @pytest.mark.parametrize("status", [401, 403])
    def test_that_refuse_are_this_machine_s(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        self.answer(monkeypatch, status)

        with pytest.raises(LoadFailed, match=rf"refuses {REPOSITORY} at main \({status}\); .* HF_TOKEN here$"):
            snapshots.fetch_model(hub())

    def test_that_have_no_such_model_say_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, 404)

        with pytest.raises(MissingModel, match=rf"the Hub has no {REPOSITORY}, .* check its name, and HF_TOKEN$"):
            snapshots.fetch_model(hub())

    def test_of_any_other_kind_are_no_verdict_on_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def break_off(*_: Any, **__: Any) -> str:
            raise ConnectionResetError("in the middle of a file")

        monkeypatch.setattr(snapshots, "snapshot_download", break_off)

        with pytest.raises(Unreachable, match="in the middle of a file"):
            snapshots.fetch_model(hub())

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_that_pass_are_no_verdict_on_the_model(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        self.answer(monkeypatch, status)

        with pytest.raises(Unreachable, match=rf"can't give {REPOSITORY} now \({status}\); it will be tried again$"):
            snapshots.fetch_model(hub())


class TestHashedFolders:
    def test_are_not_read_again_until_a_file_changes(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # A change of the file's status a moment ago could hide another.
        monkeypatch.setattr(folder_hash, "STABLE_AFTER_SECONDS", -1.0)
        reads: list[Path] = []
        monkeypatch.setattr(snapshots, "content_hash", lambda path, _key: reads.append(path) or content_hash(path))
        entry = pipeline_for(folder)

        first = snapshots.fetch_model_unchecked(entry)
        again = snapshots.fetch_model_unchecked(entry)
        (folder / "config.json").write_text('{"a": 1}')
        changed = snapshots.fetch_model_unchecked(entry)

        assert len(reads) == 2
        assert first == again
        assert changed.revision == content_hash(folder) != first.revision
