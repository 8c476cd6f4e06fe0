"""What happens to batches and slices, for both sides: statements, claim order, termination, retention, wakeups."""
