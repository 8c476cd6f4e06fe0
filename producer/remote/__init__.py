"""The Python API over HTTP, for machines without the database."""
