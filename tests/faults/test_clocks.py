"""Workers whose clocks are wrong: leases, heartbeats and deadlines go by the database's clock alone."""

from pathlib import Path

from tests.faults.toys import TOY, check_outputs, numbered, toy_mill

JOBS = 240


def test_a_worker_an_hour_off_takes_nothing_from_others_and_loses_nothing(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    texts, hours = numbered(JOBS), "-1" if "sqlite" in database_url else "1"
    with toy_mill(tmp_path, database_url=database_url, redis_url=redis_url, window_jobs="32") as ours:
        ours.start("worker", TOY, TOY_PASS_SECONDS="0.1")
        ours.start("worker", TOY, TOY_PASS_SECONDS="0.1", TOY_CLOCK_HOURS=hours)
        workers = ours.until_ready(2)
        batch = ours.client.submit(TOY, texts, deadline="30m").wait(90)

        ours.check(batch.id, JOBS)
        check_outputs(ours, batch.id, texts)
        shares = ours.query("SELECT worker_id, ending FROM attempts WHERE batch_id = :id", id=batch.id)
        assert {row.ending for row in shares} == {"done"}, "no lease ran out"
        assert len({row.worker_id for row in shares}) == 2, "both had a share"
        assert ours.worker_pids() == workers
