"""Clients and handles over HTTP, for a server that `batchmill serve` runs; nothing here imports SQLAlchemy."""
