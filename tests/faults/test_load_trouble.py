"""Loads that fail: one machine's trouble is its own, everybody sees why a batch waits, and it goes on by itself."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, temporary_deployment, wait_for
from tests.factories import tiny_models
from tests.faults.fake_model import PIPELINE_CONFIG, fake_model_deployment, numbered_texts

JOBS = 20


def catalogue(path: Path, **models: Path) -> str:
    """Write a batchmill.toml with these pipelines; returns its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "".join(
            f'[pipelines.{pipeline}]\ntask = "sentiment-analysis"\nmodel = "{model}"\n'
            for pipeline, model in models.items()
        )
    )
    return str(path)


def waiting_for(deployment: Deployment, batch_id: str) -> dict[str, str]:
    """Code and sentence of what `show` gives as the reason that nobody works on the batch."""
    shown = json.loads(deployment.invoke("show", batch_id, "--json").stdout)
    return {blocker["code"]: blocker["message"] for blocker in shown["waiting_for"]}


def until_waiting_for(deployment: Deployment, batch_id: str, code: str) -> str:
    found: str = wait_for(lambda: waiting_for(deployment, batch_id).get(code), f"the reason {code}")
    return found


def status(deployment: Deployment, batch_id: str) -> str:
    found: str = deployment.query("SELECT status FROM batches WHERE id = :id", id=batch_id)[0].status
    return found


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {name: tiny_models.distilbert(tmp_path / name) for name in ("model", "other")}


def test_a_worker_with_a_damaged_folder_fails_nothing_that_a_busy_one_serves(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    damaged = tiny_models.distilbert(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"half of it")
    bad = catalogue(tmp_path / "bad.toml", b=damaged)
    with fake_model_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, switch_after_seconds="600"
    ) as deployment:
        config = deployment.folder / "home" / "batchmill.toml"
        config.write_text(config.read_text() + PIPELINE_CONFIG.replace("pipelines.fake", "pipelines.b"))
        busy = deployment.client.submit("fake", numbered_texts(60_000))  # more than it has time for
        deployment.start_worker("fake", "b", FAKE_FORWARD_SECONDS="0.2")
        deployment.wait_for_results(busy.id, 1)
        batch = deployment.client.submit("b", numbered_texts(JOBS))
        with deployment.client.database.write() as connection:  # both machines have the model under this name
            connection.execute(text("UPDATE batches SET model = :model"), {"model": str(damaged)})

        deployment.start("worker", "b", "--devices", "cpu", BATCHMILL_CONFIG=bad, FAKE_RUNTIME="off")
        reason = until_waiting_for(deployment, batch.id, "model_unusable")
        wait_for(lambda: deployment.query("SELECT attempts FROM load_failures")[0].attempts >= 3, "three tries")
        busy.cancel()
        batch.wait(WAIT_TIMEOUT_SECONDS)

        assert str(damaged) in reason
        deployment.assert_completed(batch.id, JOBS)


def test_a_folder_that_comes_late_is_loaded_and_doctor_names_it_meanwhile(
    tmp_path: Path, sqlite_url: str, redis_url: str, folders: dict[str, Path]
) -> None:
    catalogue(tmp_path / "home" / "batchmill.toml", late=tmp_path / "model", healthy=folders["other"])
    with temporary_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, switch_after_seconds="1"
    ) as deployment:
        batch = deployment.client.submit("late", numbered_texts(JOBS))
        away = folders["model"].rename(tmp_path / "unmounted")
        deployment.start("worker", "late", "healthy", "--devices", "cpu")

        reason = until_waiting_for(deployment, batch.id, "model_missing")
        other = deployment.client.submit("healthy", numbered_texts(JOBS)).wait(WAIT_TIMEOUT_SECONDS)
        findings = json.loads(deployment.invoke("doctor", "--json").stdout)["findings"]
        watched = deployment.invoke("watch", batch.id, "--timeout", "7")
        away.rename(tmp_path / "model")
        batch.wait(WAIT_TIMEOUT_SECONDS)

        assert "there is no model folder" in reason
        assert [one["level"] for one in findings if one["what"] == "models"] == ["warning"]
        assert b"there is no model folder" in watched.stderr
        deployment.assert_completed(batch.id, JOBS)
        deployment.assert_completed(other.id, JOBS)
        assert deployment.query("SELECT * FROM load_failures") == []


def test_a_pipeline_whose_load_kills_the_process_keeps_none_of_the_others(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    with fake_model_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, switch_after_seconds="1"
    ) as deployment:
        config = deployment.folder / "home" / "batchmill.toml"
        config.write_text(
            config.read_text() + config.read_text().partition("\n")[2].replace("pipelines.fake", "pipelines.crashing")
        )
        crashing = deployment.client.submit("crashing", numbered_texts(JOBS))
        healthy = deployment.client.submit("fake", numbered_texts(JOBS))
        deployment.start("worker", "crashing", "fake", "--devices", "cpu", FAKE_LOAD_CRASH="crashing")

        reason = until_waiting_for(deployment, crashing.id, "load_failed")
        healthy.wait(WAIT_TIMEOUT_SECONDS)

        assert "ended (exit status -6, crashed) while it loaded nobody/fake" in reason
        assert status(deployment, crashing.id) == "in_progress"
        deployment.assert_completed(healthy.id, JOBS)


def test_a_stop_in_the_middle_of_a_load_is_in_good_order(
    tmp_path: Path, sqlite_url: str, redis_url: str, folders: dict[str, Path]
) -> None:
    catalogue(tmp_path / "home" / "batchmill.toml", slow=folders["model"])
    (folders["model"] / "big.bin").symlink_to("/dev/zero")  # no regular file: it is not read for ever
    with temporary_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url) as deployment:
        supervisor = deployment.start("worker", "slow", "--devices", "cpu")
        wait_for(lambda: deployment.query("SELECT * FROM workers"), "the process to be seen")

        supervisor.terminate()

        assert supervisor.wait(WAIT_TIMEOUT_SECONDS) == 0
        assert deployment.query("SELECT * FROM workers") == []
