"""A no-op model: the overhead of Batchmill alone, against one Celery task for each job."""

from benchmarks import celery_peers, deployments, options, report
from benchmarks.comparison import Candidate, Measurement, run_interleaved

PEER_DIVISOR = 20  # the peer gets a twentieth of the jobs, or its runs would take minutes
WARM_UP_JOBS = 5_000


def main() -> None:
    """Print the throughput."""
    asked = options.parse_options(__doc__, items=100_000)
    inputs = [f"text {number}: it came on time and does what it should" for number in range(asked.items)]
    with (
        options.temporary_folder() as folder,
        deployments.run_servers() as (postgres, valkey),
        deployments.run_service(postgres, valkey, folder / "noop") as service,
        celery_peers.run_celery_worker(postgres, valkey, folder, "nothing", processes=2) as publish,
    ):
        service.run_batch(deployments.NO_OP_PIPELINE, inputs[:WARM_UP_JOBS])
        spans: list[deployments.BatchTiming] = []

        def ours() -> float:
            spans.append(service.run_batch(deployments.NO_OP_PIPELINE, inputs))
            return spans[-1].total_seconds

        peer = inputs[: asked.items // PEER_DIVISOR]
        contestants = [
            Candidate("Batchmill, one worker", ours),
            # Per job; the comparison counts in Batchmill's number of jobs.
            Candidate("one Celery task for each job", lambda: publish(peer) * len(inputs) / len(peer)),
        ]
        standings = run_interleaved(contestants, asked.items, asked.rounds)
        peak = service.peak_mib
    worked = Measurement("committed", asked.items, [span.work_seconds for span in spans])
    whole, tasks = standings.values()
    report.print_throughput(
        f"No-op model: {asked.items:,} jobs, from the call of submit to the last row",
        "jobs/s",
        standings,
        whole.name,
        "noop",
    )
    report.print_targets(
        [
            report.Target("committed submit to committed results, jobs/s", 15_000, worked.items_per_second, "{:,.0f}"),
            report.Target(
                "against one Celery task for each job, whole path",
                15,
                whole.items_per_second / tasks.items_per_second,
                "{:.1f} ×",
            ),
        ]
    )
    print(f"Peak memory of the worker process: {peak:,.0f} MiB, torch included.")


if __name__ == "__main__":
    main()
