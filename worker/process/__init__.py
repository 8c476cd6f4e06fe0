"""The worker process: receives wakeups, keeps one pipeline loaded, renews leases and runs the engine."""
