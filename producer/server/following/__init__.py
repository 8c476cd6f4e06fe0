"""Following batches: one poller watches all batches that somebody follows, and streams tell what changed."""
