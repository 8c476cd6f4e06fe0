"""What identifies a batch: its id, the fingerprint of its request, and the cache key of its outputs."""
