"""The life cycle of batches and slices, shared by both sides: SQL, claim order, termination, retention, wakeups."""
