"""One worker process: it hears wakeups, keeps one pipeline loaded, renews its leases and runs an engine."""
