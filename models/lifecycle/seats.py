"""Seats: a worker's place under its supervisor, which outlives the processes that fill it one after another.

A worker's id is its seat with the number of the start. So a process knows which pipelines the ones before it could not
load.
"""

START_SEPARATOR = "#"


def make_worker_id(worker_name: str, start: int) -> str:
    """The id of the worker that fills this seat at its start of this number."""
    return f"{worker_name}{START_SEPARATOR}{start}"


def worker_name_for(worker_id: str) -> str:
    """The seat of the worker with this id."""
    return worker_id.partition(START_SEPARATOR)[0]
