"""The registry of one server: its own requests, and the numbers of the database."""

from functools import partial

from prometheus_client import CollectorRegistry

from models.db import Database
from models.settings import Settings
from producer.server.metrics.collector import DatabaseCollector
from producer.server.metrics.database_numbers import read_numbers
from producer.server.metrics.http_requests import HttpMetrics


class ServerMetrics:
    """What `/metrics` shows."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self.http = HttpMetrics(self.registry)
        self.registry.register(DatabaseCollector(partial(read_numbers, database, settings)))
