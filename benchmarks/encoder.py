"""Texts of mixed lengths through a DistilBERT-base: Batchmill end to end against what people write without it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import ceiling, checkpoints, corpus, loops, mills, options, queues, raydata, report
from benchmarks.contest import Contestant, Standing, best, held
from benchmarks.report import Target

TASK = "sentiment-analysis"
OURS, BARE = "Batchmill, end to end", "our bare loop, no queue, no SQL"
PLAIN = "pipeline(batch_size="
SIZES, SORTED_SIZES = (1, 8, 32, 64), (8, 32)
SLOW, SLOW_ROUNDS = 32, 2  # batch sizes from here on run less often
PEER_SIZE = 8  # for the peers that gather texts themselves; larger ones are slower here


def main() -> None:
    """Print the paces and how they stand to the targets."""
    asked = options.parsed(__doc__, items=96, distribution=True)
    model = checkpoints.classifier()
    tokenizer = checkpoints.tokenizer(model)
    texts = corpus.texts(tokenizer, asked.items, asked.lengths)
    warm_up = corpus.warm_up(tokenizer, asked.lengths)
    tokens = sum(corpus.lengths(asked.items, asked.lengths))
    before = ceiling.best()
    with ExitStack() as stack:
        padding: list[float] = []
        contestants = [*_in_process(model, texts), *_services(stack, model, texts, warm_up, padding)]
        standings = held(contestants, len(texts), asked.rounds)
    bound = max(before, ceiling.best()) * len(texts) / tokens
    report.paces(
        f"DistilBERT-base, {asked.items} texts of {asked.lengths} lengths, mean {tokens / len(texts):.0f} tokens",
        "texts/s", standings, OURS,
    )  # fmt: skip
    print(
        f"Ceiling by matrix products alone: {bound:.1f} texts/s. Batchmill's padding: {padding[-1]:.1%} of its tokens."
    )
    report.targets(_targets(standings, bound))


def _in_process(model: Path, texts: list[str]) -> list[Contestant]:
    loaded = loops.load(TASK, model)
    pipe = loops.transformers_pipeline(TASK, str(model))
    pipe(texts[:8], batch_size=8, truncation=True)
    contestants = []
    for sort, sizes in ((False, SIZES), (True, SORTED_SIZES)):
        for size in sizes:
            name = f"{'sorted by length, ' if sort else ''}{PLAIN}{size})"
            run = loops.plain(pipe, texts, size, sort=sort, truncation=True)
            contestants.append(Contestant(name, run, SLOW_ROUNDS if size >= SLOW else 99))
    return [*contestants, Contestant(BARE, loops.bare(loaded, [{"text": text} for text in texts]))]


def _services(
    stack: ExitStack, model: Path, texts: list[str], warm_up: list[str], padding: list[float]
) -> list[Contestant]:
    folder = stack.enter_context(options.work_folder())
    postgres, valkey = stack.enter_context(mills.servers())
    entries = {"bench": {"task": TASK, "model": str(model)}}
    service = stack.enter_context(mills.service(postgres, valkey, folder / "mill", entries))
    service.run("bench", warm_up)

    def ours() -> float:
        span = service.run("bench", texts)
        padding.append(span.padding)
        return span.worked

    def by_celery(task: str, **how: Any) -> Any:
        publish = stack.enter_context(queues.celery_worker(postgres, valkey, folder, task, model=model, **how))
        return lambda: publish(texts)

    return [
        Contestant(OURS, ours),
        Contestant("one Celery task for each text", by_celery("one")),
        Contestant(f"celery-batches, flush_every={PEER_SIZE}", by_celery("many", flush_every=PEER_SIZE)),
        Contestant(f"Ray Data, batch_size={PEER_SIZE}", raydata.map_batches(model, texts, PEER_SIZE)),
    ]


def _targets(standings: dict[str, Standing], bound: float) -> list[Target]:
    ours, bare = standings[OURS].pace, standings[BARE].pace
    return [
        Target("against the best batch size of pipeline()", 1.45, ours / best(standings, PLAIN).pace),
        Target("against pipeline(batch_size=32)", 4.5, ours / standings[f"{PLAIN}32)"].pace),
        Target("against our own bare loop", 0.95, ours / bare),
        Target("share of the ceiling", 70, 100 * ours / bound, "{:.0f} %"),
    ]


if __name__ == "__main__":
    main()
