"""Texts of mixed lengths through DistilBERT-base: Batchmill end to end against hand-written alternatives."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import (
    celery_peers,
    checkpoints,
    corpus,
    deployments,
    inference_loops,
    matmul_ceiling,
    options,
    ray_data,
    report,
)
from benchmarks.comparison import Candidate, Measurement, fastest_of, run_interleaved
from benchmarks.report import Target

TASK = "sentiment-analysis"
BATCHMILL_NAME, BARE_LOOP_NAME = "Batchmill, end to end", "our bare loop, no queue, no SQL"
PIPELINE_PREFIX = "pipeline(batch_size="
BATCH_SIZES, SORTED_BATCH_SIZES = (1, 8, 32, 64), (8, 32)
SLOW_BATCH_SIZE, MAX_SLOW_ROUNDS = 32, 2  # batch sizes from here on run less often
PEER_BATCH_SIZE = 8  # for the peers that collect texts themselves; larger ones are slower here


def main() -> None:
    """Print the throughput and compare it with the targets."""
    asked = options.parse_options(__doc__, items=96, distribution=True)
    model = checkpoints.classifier_folder()
    tokenizer = checkpoints.load_tokenizer(model)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    warm_up = corpus.warm_up_texts(tokenizer, asked.lengths)
    tokens = sum(corpus.token_lengths(asked.items, asked.lengths))
    before = matmul_ceiling.max_tokens_per_second()
    with ExitStack() as stack:
        padding: list[float] = []
        contestants = [
            *_in_process_candidates(model, texts),
            *_service_candidates(stack, model, texts, warm_up, padding),
        ]
        standings = run_interleaved(contestants, len(texts), asked.rounds)
    bound = max(before, matmul_ceiling.max_tokens_per_second()) * len(texts) / tokens
    report.print_throughput(
        f"DistilBERT-base, {asked.items} texts of {asked.lengths} lengths, mean {tokens / len(texts):.0f} tokens",
        "texts/s",
        standings,
        BATCHMILL_NAME,
        f"encoder-{asked.lengths}",
    )
    print(
        f"Ceiling by matrix products alone: {bound:.1f} texts/s. Batchmill's padding: {padding[-1]:.1%} of its tokens."
    )
    report.print_targets(_targets_for(standings, bound))


def _in_process_candidates(model: Path, texts: list[str]) -> list[Candidate]:
    loaded = inference_loops.load_runtime(TASK, model)
    pipe = inference_loops.load_pipeline(TASK, str(model))
    pipe(texts[:8], batch_size=8, truncation=True)
    contestants = []
    for sort, sizes in ((False, BATCH_SIZES), (True, SORTED_BATCH_SIZES)):
        for size in sizes:
            name = f"{'sorted by length, ' if sort else ''}{PIPELINE_PREFIX}{size})"
            run = inference_loops.pipeline_loop(pipe, texts, size, sort_by_length=sort, truncation=True)
            contestants.append(Candidate(name, run, MAX_SLOW_ROUNDS if size >= SLOW_BATCH_SIZE else 99))
    return [
        *contestants,
        Candidate(BARE_LOOP_NAME, inference_loops.bare_loop(loaded, [{"text": text} for text in texts])),
    ]


def _service_candidates(
    stack: ExitStack, model: Path, texts: list[str], warm_up: list[str], padding: list[float]
) -> list[Candidate]:
    folder = stack.enter_context(options.temporary_folder())
    postgres, valkey = stack.enter_context(deployments.run_servers())
    entries = {"bench": {"task": TASK, "model": str(model)}}
    service = stack.enter_context(deployments.run_service(postgres, valkey, folder / "home", entries))
    service.run_batch("bench", warm_up)

    def ours() -> float:
        span = service.run_batch("bench", texts)
        padding.append(span.padding_share)
        return span.work_seconds

    def by_celery(task: str, **how: Any) -> Any:
        publish = stack.enter_context(
            celery_peers.run_celery_worker(postgres, valkey, folder, task, model=model, **how)
        )
        return lambda: publish(texts)

    return [
        Candidate(BATCHMILL_NAME, ours),
        Candidate("one Celery task for each text", by_celery("one")),
        Candidate(f"celery-batches, flush_every={PEER_BATCH_SIZE}", by_celery("many", flush_every=PEER_BATCH_SIZE)),
        Candidate(f"Ray Data, batch_size={PEER_BATCH_SIZE}", ray_data.map_batches_run(model, texts, PEER_BATCH_SIZE)),
    ]


def _targets_for(measurements: dict[str, Measurement], tokens_per_second_ceiling: float) -> list[Target]:
    ours, bare = measurements[BATCHMILL_NAME].items_per_second, measurements[BARE_LOOP_NAME].items_per_second
    return [
        Target(
            "against the best batch size of pipeline()",
            1.45,
            ours / fastest_of(measurements, PIPELINE_PREFIX).items_per_second,
        ),
        Target("against pipeline(batch_size=32)", 4.5, ours / measurements[f"{PIPELINE_PREFIX}32)"].items_per_second),
        Target("against our own bare loop", 0.95, ours / bare),
        Target("share of the ceiling", 70, 100 * ours / tokens_per_second_ceiling, "{:.0f} %"),
    ]


if __name__ == "__main__":
    main()
