"""Reuse copies the results of earlier batches, which a cache key finds."""
