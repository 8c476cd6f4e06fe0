"""A seed means something: the same input gives the same text alone, among others, and after its worker was killed."""

from pathlib import Path

import psutil

from producer.handle import BatchHandle
from tests.deployment import WAIT_TIMEOUT_SECONDS, temporary_deployment, wait_for

PIPELINE = "sample-text-generation"
PARAMETERS = {"seed": 7, "max_new_tokens": 24, "num_return_sequences": 2, "temperature": 1.3}
STARTS = ("Once upon a time", "There was a little", "Every day, she liked to", "In the summer", "One morning, a")
JOBS = 160


def prompts() -> list[str]:
    return [f"{STARTS[place % len(STARTS)]}{' old' * (place // len(STARTS) % 8)} {place}" for place in range(JOBS)]


def test_sampled_text_is_the_same_alone_among_others_and_after_a_kill(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    texts, some = prompts(), range(0, JOBS, 37)
    with temporary_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, slice_size="16", max_claim_jobs="64"
    ) as deployment:
        deployment.start("worker", PIPELINE, "--devices", "cpu")
        [victim] = deployment.wait_for_workers()
        worker = psutil.Process(victim)

        def submit_and_stop() -> BatchHandle | None:
            batch = deployment.client.submit(PIPELINE, texts, parameters=PARAMETERS)
            deployment.wait_for_results(batch.id, 16)
            worker.suspend()
            if deployment.count_results(batch.id) < JOBS:
                return batch
            worker.resume()
            return None

        others = wait_for(submit_and_stop, "a batch in the middle")

        worker.kill()

        others.wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(others.id, JOBS)
        alone = [
            deployment.client.submit(PIPELINE, [texts[place]], parameters=PARAMETERS).wait(WAIT_TIMEOUT_SECONDS)
            for place in some
        ]
        shuffled = deployment.client.submit(PIPELINE, texts[::-1], parameters=PARAMETERS).wait(WAIT_TIMEOUT_SECONDS)
        other = deployment.client.submit(PIPELINE, texts, parameters={**PARAMETERS, "seed": 8})
        other.wait(WAIT_TIMEOUT_SECONDS)

        outputs = deployment.outputs(others.id)
        attempts = deployment.query("SELECT max(attempts) AS most FROM results WHERE batch_id = :id", id=others.id)[
            0
        ].most
        assert attempts == 2, "the kill came too late to show anything"
        assert [deployment.outputs(batch.id) for batch in alone] == [[outputs[place]] for place in some]
        assert deployment.outputs(shuffled.id) == outputs[::-1]
        assert all(one["generated_text"] != two["generated_text"] for one, two in outputs)
        different = sum(deployment.outputs(other.id)[place] != outputs[place] for place in range(JOBS))
        assert different > JOBS * 0.9
