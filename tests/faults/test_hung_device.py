"""A device that does not come back: its process is ended, others go on, and who hangs again and again is closed."""

from pathlib import Path

from tests.faults.fake_model import FAKE_PIPELINE, count_forward_passes, fake_model_deployment, numbered_texts
from tests.servers import WAIT_TIMEOUT_SECONDS

JOBS, PLACE = 64, 37


def test_an_input_on_which_the_device_hangs_is_closed_and_costs_the_others_nothing(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    texts = numbered_texts(JOBS)
    texts[PLACE] = f"hang {texts[PLACE]}"
    with fake_model_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, forward_timeout_seconds="3"
    ) as deployment:
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.start("worker", FAKE_PIPELINE, FAKE_FORWARD_LOG=str(tmp_path / "forward.log"))
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        failed = deployment.query("SELECT position, error_code, attempts FROM results WHERE status <> 'succeeded'")
        assert [tuple(row) for row in failed] == [(PLACE, "forward_timeout", 3)]
        endings = deployment.query("SELECT outcome FROM job_attempts WHERE position = :place", place=PLACE)
        assert [row.outcome for row in endings] == ["hung"] * 3
        assert count_forward_passes(tmp_path / "forward.log")[texts[PLACE]] == 3
