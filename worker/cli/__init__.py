"""The CLI commands that need a worker's dependencies: `worker`, `up`, `maintain` and `models`."""
