"""What a worker process measures of its work, and the port on which Prometheus reads it.

Recording happens per micro-batch, per claim and per commit, never per row. Without a port nothing is recorded, and
prometheus_client is not imported.
"""
