"""Seats: a worker's place under its supervisor, which outlives the processes that fill it one after another.

A worker's id is its seat with the number of the start. So a process knows which pipelines the ones before it could not
load.
"""

SEPARATOR = "#"


def worker_id(seat: str, start: int) -> str:
    """The id of the worker that fills this seat at its start of this number."""
    return f"{seat}{SEPARATOR}{start}"


def seat_of(worker: str) -> str:
    """The seat of the worker with this id."""
    return worker.partition(SEPARATOR)[0]
