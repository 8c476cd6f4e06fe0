"""The Celery tasks that people write by hand: one for each text, which asks the model and inserts a row.

Run by a Celery worker of its own, with celery-batches in that one's environment; imports nothing of Batchmill's.
"""

import os
from typing import Any

import psycopg
from celery import Celery
from celery.signals import worker_process_init

app = Celery("bench", broker=os.environ["BENCH_BROKER"], set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    worker_proc_alive_timeout=120,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    broker_connection_retry_on_startup=True,
)

INSERT = "INSERT INTO answers (position, label, score) VALUES (%s, %s, %s)"
state: dict[str, Any] = {}


@worker_process_init.connect
def prepare(**_: Any) -> None:
    """Load the model and connect in the process that answers."""
    state["connection"] = psycopg.connect(os.environ["BENCH_DATABASE"])
    if model := os.environ.get("BENCH_MODEL"):
        import torch
        from transformers import pipeline

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        state["pipeline"] = pipeline("sentiment-analysis", model=model, device="cpu")


@app.task(name="bench.one")
def one(position: int, text: str) -> None:
    """Answer one text in one transaction."""
    answer = state["pipeline"](text, truncation=True)[0]
    _insert([(position, answer["label"], answer["score"])])


@app.task(name="bench.nothing")
def nothing(position: int, _text: str) -> None:
    """Insert an answer that cost nothing, in one transaction."""
    _insert([(position, "NONE", 1.0)])


def _insert(rows: list[tuple[int, str, float]]) -> None:
    with state["connection"].transaction(), state["connection"].cursor() as cursor:
        cursor.executemany(INSERT, rows)


if most := int(os.environ.get("BENCH_FLUSH_EVERY", "0")):
    from celery_batches import Batches

    @app.task(name="bench.many", base=Batches, flush_every=most, flush_interval=0.5)
    def many(requests: list[Any]) -> None:
        """Answer what celery-batches has gathered: one call of the pipeline, one transaction."""
        answers = state["pipeline"]([request.args[1] for request in requests], batch_size=most, truncation=True)
        _insert([(r.args[0], a["label"], a["score"]) for r, a in zip(requests, answers, strict=True)])
