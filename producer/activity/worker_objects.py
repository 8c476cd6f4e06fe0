"""Worker processes as JSON objects, each with what it does and what it can't load."""

from typing import Any

from models.db import Database
from models.lifecycle.seats import worker_name_for
from producer.activity import utilisation
from producer.batches import blockers
from producer.workers import workers


def list_worker_objects(database: Database, lease_seconds: float) -> list[dict[str, Any]]:
    """Return the worker processes as `batchmill workers --json` prints them."""
    failures = blockers.list_load_failures(database)
    views = workers.list_workers(database, lease_seconds)
    activities = utilisation.read_worker_activity(database, views)
    return [
        {
            **worker.as_dict(),
            **activities[worker.id].as_dict(),
            "load_failures": [item.as_dict() for item in failures if item.worker_name == worker_name_for(worker.id)],
        }
        for worker in views
    ]
