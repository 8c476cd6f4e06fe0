"""The metadata of all tables; to import it is to import the module of every table."""

from models.tables import batches, results, schedules, service, workers
from models.tables.base import Base

__all__ = ["METADATA", "batches", "results", "schedules", "service", "workers"]

METADATA = Base.metadata
