"""A model that does nothing: Batchmill's own pace, against one Celery task for each job."""

from benchmarks import mills, options, queues, report
from benchmarks.contest import Contestant, Standing, held

PEER_SHARE = 20  # the peer gets a twentieth of the jobs, or its runs would take minutes
WARM_UP = 5_000


def main() -> None:
    """Print the paces."""
    asked = options.parsed(__doc__, items=100_000)
    inputs = [f"text {number}: it came on time and does what it should" for number in range(asked.items)]
    with (
        options.work_folder() as folder,
        mills.servers() as (postgres, valkey),
        mills.service(postgres, valkey, folder / "noop") as service,
        queues.celery_worker(postgres, valkey, folder, "nothing", processes=2) as publish,
    ):
        service.run(mills.NO_OP, inputs[:WARM_UP])
        spans: list[mills.Span] = []

        def ours() -> float:
            spans.append(service.run(mills.NO_OP, inputs))
            return spans[-1].whole

        peer = inputs[: asked.items // PEER_SHARE]
        contestants = [
            Contestant("Batchmill, one worker", ours),
            # Per job; the contest counts in Batchmill's number of jobs.
            Contestant("one Celery task for each job", lambda: publish(peer) * len(inputs) / len(peer)),
        ]
        standings = held(contestants, asked.items, asked.rounds)
        peak = service.peak_mib
    worked = Standing("committed", asked.items, [span.worked for span in spans])
    whole, tasks = standings.values()
    report.paces(
        f"No-op model: {asked.items:,} jobs, from the call of submit to the last row", "jobs/s", standings, whole.name
    )
    report.targets([
        report.Target("committed submit to committed results, jobs/s", 15_000, worked.pace, "{:,.0f}"),
        report.Target("against one Celery task for each job, whole path", 15, whole.pace / tasks.pace, "{:.1f} ×"),
    ])  # fmt: skip
    print(f"Peak memory of the worker process: {peak:,.0f} MiB, torch included.")


if __name__ == "__main__":
    main()
