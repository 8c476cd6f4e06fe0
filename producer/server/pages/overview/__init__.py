"""The first page: throughput, backlog, workers, and what needs attention."""
