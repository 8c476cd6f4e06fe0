"""Enqueueing by the peers: one Redis message for each row, in a separate process and, for RQ, environment.

`python -m benchmarks.peer_enqueue celery|rq REDIS_URL ROWS` prints the seconds from the first row to the last in Redis.
Importing, connecting and creating the rows are not counted.
"""

import sys
import time
from collections.abc import Sequence

JOBS_PER_CALL = 1_000  # jobs in one call of RQ's enqueue_many, a round trip each
TASK_NAME = "benchmarks.celery_tasks.insert_noop_answer"


def short_text(number: int) -> str:
    """Return the text of a row, different for each number."""
    return f"text {number}: it came on time and does what it should"


def enqueue_with_celery(redis_url: str, texts: Sequence[str]) -> float:
    """Call `apply_async` for each text on one connection and return the seconds."""
    from celery import Celery

    app = Celery("bench", broker=redis_url, set_as_current=False)
    app.conf.update(task_ignore_result=True)

    @app.task(name=TASK_NAME)
    def nothing(position: int, text: str) -> None: ...

    with app.producer_pool.acquire(block=True) as producer:
        producer.connection.ensure_connection(max_retries=1)
        started = time.perf_counter()
        for position, text in enumerate(texts):
            nothing.apply_async(args=(position, text), producer=producer)
        seconds = time.perf_counter() - started
    app.close()
    return seconds


def enqueue_with_rq(redis_url: str, texts: Sequence[str]) -> float:
    """Call `enqueue_many` for a thousand jobs at a time, each call one Redis pipeline, and return the seconds."""
    from redis import Redis
    from rq import Queue

    with Redis.from_url(redis_url) as client:
        client.ping()
        queue = Queue("bench", connection=client)
        started = time.perf_counter()
        for first in range(0, len(texts), JOBS_PER_CALL):
            some = enumerate(texts[first : first + JOBS_PER_CALL], start=first)
            queue.enqueue_many([Queue.prepare_data(TASK_NAME, args=(position, text)) for position, text in some])
        return time.perf_counter() - started


if __name__ == "__main__":
    _, peer, url, rows = sys.argv
    print(
        {"celery": enqueue_with_celery, "rq": enqueue_with_rq}[peer](
            url, [short_text(number) for number in range(int(rows))]
        )
    )
