"""The registry of one server: its own requests, and the numbers of the database."""

from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from models.db import Database
from models.settings import Settings
from producer.server.metrics.collector import DATABASE_UP, DatabaseCollector
from producer.server.metrics.database_numbers import read_numbers
from producer.server.metrics.http_requests import HttpMetrics


class ServerMetrics:
    """What `/metrics` shows.

    registry: all of it
    outage_registry: what is left while the database does not answer; it is read without a query
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self.http = HttpMetrics(self.registry)
        self.registry.register(DatabaseCollector(partial(read_numbers, database, settings)))
        self.outage_registry = CollectorRegistry()
        for family in (self.http.requests, self.http.seconds, self.http.in_flight):
            self.outage_registry.register(family)
        Gauge(*DATABASE_UP, registry=self.outage_registry).set(0)
