"""The commands that run work, or need what only a worker has: `worker`, `up` and `models`."""
