"""Typical hand-written Celery tasks: each answers one text with the model and inserts a row.

A separate Celery worker runs them, with celery-batches in that worker's environment. Nothing of Batchmill is imported.
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

INSERT_ANSWER = "INSERT INTO answers (position, label, score) VALUES (%s, %s, %s)"
process_state: dict[str, Any] = {}


@worker_process_init.connect
def load_model(**_: Any) -> None:
    """Load the model and connect, in the process that answers."""
    process_state["connection"] = psycopg.connect(os.environ["BENCH_DATABASE"])
    if model := os.environ.get("BENCH_MODEL"):
        import torch
        from transformers import pipeline

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        process_state["pipeline"] = pipeline("sentiment-analysis", model=model, device="cpu")


@app.task(name="bench.one")
def answer_text(position: int, text: str) -> None:
    """Answer one text in one transaction."""
    answer = process_state["pipeline"](text, truncation=True)[0]
    _insert_rows([(position, answer["label"], answer["score"])])


@app.task(name="bench.nothing")
def insert_noop_answer(position: int, _text: str) -> None:
    """Insert an answer without a model, in one transaction."""
    _insert_rows([(position, "NONE", 1.0)])


def _insert_rows(rows: list[tuple[int, str, float]]) -> None:
    with process_state["connection"].transaction(), process_state["connection"].cursor() as cursor:
        cursor.executemany(INSERT_ANSWER, rows)


if most := int(os.environ.get("BENCH_FLUSH_EVERY", "0")):
    from celery_batches import Batches

    @app.task(name="bench.many", base=Batches, flush_every=most, flush_interval=0.5)
    def many(requests: list[Any]) -> None:
        """Answer the texts that celery-batches collected, with one pipeline call and one transaction."""
        answers = process_state["pipeline"]([request.args[1] for request in requests], batch_size=most, truncation=True)
        _insert_rows([(r.args[0], a["label"], a["score"]) for r, a in zip(requests, answers, strict=True)])
