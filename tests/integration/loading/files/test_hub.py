"""Loading from the Hub over HTTP: the right revision, or a sentence, whatever goes wrong on the way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.deployment import WAIT_TIMEOUT_SECONDS, temporary_deployment, wait_for
from tests.factories.sentence_models import add_modules, write_json
from tests.hub_server import GATED, NO_REPOSITORY, NO_REVISION, FakeHub, hub_server

REPOSITORY = "made/reviews"
TOKEN = "hf_canary0123456789"

ASK = """
import json, sys
from models.errors import BatchmillError
from models.pipelines.pipeline import Pipeline
from worker.loading.files import snapshots
entry = Pipeline(name="made", task=sys.argv[3], model=sys.argv[1], revision=sys.argv[2] or None)
try:
    found = snapshots.fetch_model(entry)
    if len(sys.argv) > 4:
        entry = entry.model_copy(update={"adapter": sys.argv[4], "adapter_revision": sys.argv[5]})
        found = snapshots.fetch_adapter(entry)
        print(json.dumps({"revision": found.revision, "files": sorted(path.name for path in found.folder.iterdir())}))
        sys.exit()
    print(json.dumps({"revision": found.revision, "weights": (found.folder / "model.safetensors").stat().st_size}))
except BatchmillError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with hub_server() as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return copied(tmp_path / "first")


def copied(target: Path, **config: Any) -> Path:
    target.mkdir()
    for path in (SAMPLES_FOLDER / "sentiment-analysis").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    known = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(known | config))
    return target


def environment(hub: FakeHub, home: Path, **other: str) -> dict[str, str]:
    settings = {"HF_HUB_DOWNLOAD_TIMEOUT": "60", "HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DISABLE_XET": "1"}
    return {"HF_ENDPOINT": hub.base_url, "HF_HOME": str(home), **settings, **other}


def ask(
    hub: FakeHub,
    home: Path,
    revision: str = "",
    task: str = "sentiment-analysis",
    adapter: tuple[str, ...] = (),
    **other: str,
) -> dict[str, Any]:
    """What a process of its own makes of the repository."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, REPOSITORY, revision, task, *adapter],
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT_SECONDS,
        check=True,
        env={**os.environ, **environment(hub, home, **other)},
        cwd=Path(__file__).parents[4],
    )
    assert TOKEN not in done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_branch_comes_to_its_commit_and_a_pinned_commit_to_itself(
    hub: FakeHub, model: Path, tmp_path: Path
) -> None:
    first = hub.add_commit(REPOSITORY, model)
    second = hub.add_commit(REPOSITORY, copied(tmp_path / "second", note=2))

    assert ask(hub, tmp_path / "hf")["revision"] == second
    assert ask(hub, tmp_path / "hf", first)["revision"] == first


def test_files_come_from_where_the_hub_redirects_to_and_the_token_does_not_go_there(
    hub: FakeHub, model: Path, tmp_path: Path
) -> None:
    commit = hub.add_commit(REPOSITORY, model)
    hub.cdn_url = hub.base_url.replace("127.0.0.1", "localhost")

    assert ask(hub, tmp_path / "hf", HF_TOKEN=TOKEN)["revision"] == commit

    cdn = [headers for _, path, headers in hub.requests if path.startswith("/cdn/")]
    others = [headers for _, path, headers in hub.requests if path.startswith(f"/{REPOSITORY}/")]
    assert cdn
    assert all("authorization" not in headers for headers in cdn)
    assert all(TOKEN in headers.get("authorization", "") for headers in others)


@pytest.mark.parametrize(
    ("status", "code", "error", "sentence"),
    [
        (401, GATED, "LoadFailed", "accept the model's terms there, and set HF_TOKEN here"),
        (403, GATED, "LoadFailed", "accept the model's terms there, and set HF_TOKEN here"),
        (404, NO_REPOSITORY, "MissingModel", "check its name, and HF_TOKEN"),
        (404, NO_REVISION, "MissingModel", "pin a revision that it has"),
        (429, "", "Unreachable", ""),
        (503, "", "Unreachable", ""),
    ],
)
def test_a_refusal_is_a_sentence_and_never_speaks_against_the_content(
    hub: FakeHub, model: Path, tmp_path: Path, status: int, code: str, error: str, sentence: str
) -> None:
    commit = hub.add_commit(REPOSITORY, model)
    hub.error_rules = [("/api/models/", status, code)]

    found = ask(hub, tmp_path / "hf", HF_TOKEN=TOKEN)

    assert found["error"] == error
    assert REPOSITORY in found["message"]
    assert sentence in found["message"]
    hub.error_rules = []
    assert ask(hub, tmp_path / "hf")["revision"] == commit


def test_the_folders_of_an_embedding_model_come_with_it(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    add_modules(model, steps=[("Dense", {"in_features": 128, "out_features": 8}), ("Normalize", {})])
    write_json(model / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    (model / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickled")
    commit = hub.add_commit(REPOSITORY, model)

    assert ask(hub, tmp_path / "hf", task="embeddings")["revision"] == commit

    [folder] = (tmp_path / "hf").rglob(f"snapshots/{commit}")
    fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    wanted = {"modules.json", "config_sentence_transformers.json", "1_Pooling/config.json", "2_Dense/config.json"}
    assert wanted | {"2_Dense/model.safetensors"} <= fetched
    assert "2_Dense/pytorch_model.bin" not in fetched


def test_a_download_that_breaks_off_goes_on_the_next_time(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    commit = hub.add_commit(REPOSITORY, model)
    whole = (model / "model.safetensors").stat().st_size
    hub.disconnect_after_bytes = 500_000

    found = [ask(hub, tmp_path / "hf")]
    if "error" in found[0]:
        assert found[0]["error"] == "Unreachable"
        found.append(ask(hub, tmp_path / "hf"))

    assert found[-1] == {"revision": commit, "weights": whole}


def test_a_hub_that_is_away_leaves_what_is_in_the_cache(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    commit = hub.add_commit(REPOSITORY, model)
    ask(hub, tmp_path / "hf")
    hub.error_rules = [("/", 503, "")]

    assert ask(hub, tmp_path / "hf", commit)["revision"] == commit


def test_a_branch_that_moves_between_two_workers_leaves_each_batch_its_commit(
    hub: FakeHub, model: Path, tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    old = hub.add_commit(REPOSITORY, model)
    home = tmp_path / "home"
    home.mkdir()
    (home / "batchmill.toml").write_text(f'[pipelines.reviews]\ntask = "sentiment-analysis"\nmodel = "{REPOSITORY}"\n')
    with temporary_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url) as ours:
        first = ours.start("worker", "reviews", "--devices", "cpu", **environment(hub, tmp_path / "hf1"))
        begun = ours.client.submit("reviews", ["It is great."] * 4).wait(WAIT_TIMEOUT_SECONDS)
        first.terminate()
        first.wait(WAIT_TIMEOUT_SECONDS)
        waiting = ours.client.submit("reviews", ["It is great."] * 4)
        with ours.client.database.write() as connection:  # begun with the old commit, and not finished
            connection.exec_driver_sql(f"UPDATE batches SET revision = '{old}'")
        new = hub.add_commit(REPOSITORY, copied(tmp_path / "second", note=2))

        ours.start("worker", "reviews", "--devices", "cpu", **environment(hub, tmp_path / "hf2"))
        fresh = ours.client.submit("reviews", ["It is great."] * 4)
        wait_for(lambda: waiting.refresh().status == fresh.refresh().status == "completed", "both batches")

        def revisions(batch_id: str) -> set[str]:
            rows = ours.query("SELECT DISTINCT revision FROM job_results WHERE batch_id = :id", id=batch_id)
            return {row.revision for row in rows}

        assert (revisions(begun.id), revisions(waiting.id), revisions(fresh.id)) == ({old}, {old}, {new})


def test_an_adapter_comes_at_its_commit_and_without_pickled_weights(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"):
        (adapter / name).write_bytes(b"{}")
    hub.add_commit(REPOSITORY, model)
    first, second = (hub.add_commit("made/adapter", adapter) for _ in range(2))

    found = ask(hub, tmp_path / "hf", adapter=("made/adapter", first))

    assert found == {"revision": first, "files": ["adapter_config.json", "adapter_model.safetensors"]}
    missing = ask(hub, tmp_path / "hf", adapter=("made/adapter", "0" * 40))
    assert missing["error"] == "MissingModel"
    assert second != first
