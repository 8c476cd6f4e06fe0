"""Progress of one batch: its counts, pace of work and remaining time."""
