"""Guards, end to end on a CPU: the time of a guard of the pipeline's own size, and of rules alone."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks import checkpoints, corpus, deployments, options, report, results_file
from benchmarks.deployments import RunningService
from benchmarks.report import Target

PLAIN, RULED, GUARDED, WATCH = "plain", "ruled", "guarded", "watch"
MAX_GUARDED_SHARE, MAX_RULED_SHARE = 1.15, 1.05

# Random weights give each label about one half, so this guard reads every row and catches none.
MODEL_GUARD = {"on": "input", "pipeline": WATCH, "label": "B", "threshold": 0.999, "action": "fail"}
RULES = {
    "secrets": {"on": "input", "pattern": r"(?i)api[_-]?key\s*[:=]\s*\S+", "action": "fail"},
    "personal": {"on": "input", "pii": ["email", "phone", "card", "iban", "ip"], "action": "redact"},
    "names": {"on": "input", "words": ["project bluebird", "project redwood"], "action": "flag"},
}


def main() -> None:
    """Print the figures beside their targets, and save them."""
    asked = options.parse_options(__doc__, items=192, distribution=True)
    folder = checkpoints.classifier_folder()
    entry = {"task": "sentiment-analysis", "model": str(folder)}
    pipelines: dict[str, dict[str, Any]] = {
        PLAIN: entry,
        WATCH: entry,
        RULED: {**entry, "guards": RULES},
        GUARDED: {**entry, "guards": {"injection": MODEL_GUARD}},
    }
    tokenizer = checkpoints.load_tokenizer(folder)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    with options.temporary_folder() as home, deployments.run_servers() as (postgres, valkey):
        url = postgres.create_database("mill_guards")
        with deployments.deployment_on(url, valkey, home, pipelines) as deployment:
            services = {
                name: RunningService(deployment, deployments.start_worker(deployment, [name]))
                for name in (PLAIN, RULED, GUARDED)
            }
            warm_up = corpus.warm_up_texts(tokenizer, asked.lengths, 1)
            for name, service in services.items():
                service.run_batch(name, warm_up)
            seconds: dict[str, list[float]] = {name: [] for name in services}
            for number in range(asked.rounds):
                for name in sorted(services, reverse=bool(number % 2)):
                    seconds[name].append(services[name].run_batch(name, texts).work_seconds)
        postgres.drop_database("mill_guards")
    _report(asked.items, seconds)


def _report(items: int, seconds: Mapping[str, list[float]]) -> None:
    rows = [
        (name, f"{items / median(times):,.1f}", f"{items / max(times):,.1f} – {items / min(times):,.1f}")
        for name, times in seconds.items()
    ]
    report.print_table("Guards", ("DistilBERT-base, end to end", "texts/s", "slowest – fastest run"), rows)
    plain = median(seconds[PLAIN])
    guarded, ruled = median(seconds[GUARDED]) / (2 * plain), median(seconds[RULED]) / plain
    report.print_targets(
        [
            Target("guard of the same size, of two batches", MAX_GUARDED_SHARE, guarded, is_upper_bound=True),
            Target("rules alone, of no guards", MAX_RULED_SHARE, ruled, is_upper_bound=True),
        ]
    )
    results_file.save("guards", {"items": items, "seconds": seconds, "guarded_share": guarded, "ruled_share": ruled})


if __name__ == "__main__":
    main()
