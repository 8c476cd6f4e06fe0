"""The pulse: news of a submitter while its source is slow, so that nobody takes it for dead."""

import threading
from types import TracebackType
from typing import Self

from sqlalchemy import text

from models.db import Database
from models.errors import Unreachable
from producer.entries import SILENT_SECONDS, Entry

PULSE_SECONDS = SILENT_SECONDS / 3  # two may be late

BEAT = """
UPDATE batches SET heard_at = {now} WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""


class Pulse:
    """Beats from a thread of its own while the block runs; `run_once` is one beat."""

    def __init__(self, database: Database, entry: Entry) -> None:
        self._database = database
        self._named = {"batch_id": entry.batch_id, "submitter": entry.submitter}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def run_once(self) -> bool:
        """Say that we are there; returns whether the batch is still ours. Raises Unreachable."""
        with self._database.write() as connection:
            return connection.execute(text(BEAT.format(now=self._database.sql.now)), self._named).rowcount == 1

    def _loop(self) -> None:
        while not self._stopping.wait(PULSE_SECONDS):
            try:
                if not self.run_once():
                    return  # the next chunk says so
            except Unreachable:
                continue  # as does the next chunk, if that lasts
