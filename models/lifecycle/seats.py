"""Worker names stay the same across restarts, while each process has an id.

A worker's id is its name and the number of its start. A restarted process can therefore look up the pipelines that its
predecessors failed to load.
"""

START_SEPARATOR = "#"


def make_worker_id(worker_name: str, start: int) -> str:
    """Build the id of the process that is start number `start` of this worker."""
    return f"{worker_name}{START_SEPARATOR}{start}"


def worker_name_for(worker_id: str) -> str:
    """The name of the worker that has this id."""
    return worker_id.partition(START_SEPARATOR)[0]
