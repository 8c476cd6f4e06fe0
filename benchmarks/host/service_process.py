"""A database, a client and a worker process with an instant model; runs a batch for each line that it reads.

The argument is a JSON object with the task, the folder of the checkpoint, the inputs' file, the parameters, a home
folder and the URLs of the database and of Redis. Each answer is a line of JSON.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from batchmill import Client
from benchmarks.host.child_process import AnswerStream
from models import schema

PIPELINE = "bench"
MAX_WAIT_SECONDS = 600.0
WARM_UP_BATCHES = 4  # together they have every input once, so that the token budget is settled
COMPARED_OUTPUTS = 64
SELECT_BATCH = "SELECT in_progress_at, completed_at, succeeded, total FROM batches WHERE id = :id"
SELECT_OUTPUTS = "SELECT position, output FROM results WHERE batch_id = :id ORDER BY position"
# Of a task whose outputs are vectors; an older commit may lack the column.
SELECT_VECTORS = "SELECT position, vector AS output FROM results WHERE batch_id = :id ORDER BY position"
VECTOR_TASK = "feature-extraction"
SELECT_ERRORS = "SELECT error_code, error_message FROM results WHERE batch_id = :id AND error_code IS NOT NULL LIMIT 3"


class Service:
    """A deployment with one worker."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._home = Path(arguments["home"])
        self._inputs = [json.loads(line) for line in Path(arguments["inputs"]).read_text("utf-8").splitlines()]
        config = self._home / "batchmill.toml"
        config.write_text(f'[pipelines.{PIPELINE}]\ntask = "{arguments["task"]}"\nmodel = "{arguments["model"]}"\n')
        os.environ.update(
            BATCHMILL_HOME=arguments["home"],
            BATCHMILL_CONFIG=str(config),
            BATCHMILL_DATABASE_URL=arguments["database_url"],
            BATCHMILL_REDIS_URL=arguments["redis_url"],
        )
        schema.upgrade(arguments["database_url"])
        self._client = Client()
        self._engine = create_engine(arguments["database_url"])
        self._times = self._home / "thread-times"

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start the worker; a first batch waits for it."""
        arguments = [self._arguments["task"], PIPELINE, str(self._arguments["threads"]), str(self._times)]
        with (self._home / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmarks.host.worker_process", *arguments],
                cwd=self._home,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def warm_up(self) -> None:
        """Answer all inputs in several batches, because the first ones after a start are slower."""
        for number in range(WARM_UP_BATCHES):
            self._run(self._inputs[number::WARM_UP_BATCHES])

    def run(self) -> dict[str, Any]:
        """Answer all inputs.

        Returns the seconds by the database's clock, the threads' seconds, a hash of the outputs and the first of them.
        """
        before = self._thread_times()
        batch_id, seconds = self._run(self._inputs)
        after = self._thread_times()
        threads = {name: after[name] - before.get(name, 0.0) for name in after}
        digest, first = self._read_outputs(batch_id)
        return {
            "seconds": seconds,
            "threads": threads,
            "items": len(self._inputs),
            "outputs": digest,
            "first_outputs": first,
        }

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _run(self, inputs: list[Any]) -> tuple[str, float]:
        batch = self._client.submit(PIPELINE, inputs, parameters=self._arguments["parameters"])
        batch.wait(MAX_WAIT_SECONDS)
        with self._engine.connect() as connection:
            row = connection.execute(text(SELECT_BATCH), {"id": batch.id}).one()
            if row.succeeded != row.total:
                errors = connection.execute(text(SELECT_ERRORS), {"id": batch.id}).all()
                raise RuntimeError(f"{row.total - row.succeeded} of {row.total} jobs failed: {errors}")
        return batch.id, (_as_time(row.completed_at) - _as_time(row.in_progress_at)).total_seconds()

    def _thread_times(self) -> dict[str, float]:
        """The newest times, written after now."""
        asked = time.time()
        while self._times.stat().st_mtime <= asked:
            time.sleep(0.02)
        return {name: float(value) for name, value in (part.split("=") for part in self._times.read_text().split())}

    def _read_outputs(self, batch_id: str) -> tuple[str, list[Any]]:
        """Return a hash of the outputs in the order of the inputs, byte for byte on SQLite, and the first of them."""
        digest = hashlib.sha256()
        first: list[Any] = []
        has_vectors = self._arguments["task"] == VECTOR_TASK
        with self._engine.connect() as connection:
            for row in connection.execute(text(SELECT_VECTORS if has_vectors else SELECT_OUTPUTS), {"id": batch_id}):
                output = row.output
                if not isinstance(output, str | bytes):
                    output = json.dumps(output, ensure_ascii=False)
                digest.update((output if isinstance(output, bytes) else output.encode()) + b"\n")
                if len(first) < COMPARED_OUTPUTS and not has_vectors:
                    first.append(json.loads(output))
        return digest.hexdigest(), first


def _as_time(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def main() -> None:
    """Answer each line of standard input with one of JSON, until its end."""
    answers = AnswerStream()
    service = Service(json.loads(sys.argv[1]))
    worker = service.start_worker()
    try:
        service.warm_up()
        answers.write({})
        for _line in sys.stdin:
            answers.write(service.run())
    finally:
        worker.terminate()
        worker.wait(60)
        service.close()


if __name__ == "__main__":
    main()
