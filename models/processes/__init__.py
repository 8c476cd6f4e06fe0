"""What one process is to others: its threads, its id as a holder, the lock of its home, and failpoints for tests."""
