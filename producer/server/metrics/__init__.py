"""`/metrics`: what Prometheus reads of a server, and through it of the database."""
