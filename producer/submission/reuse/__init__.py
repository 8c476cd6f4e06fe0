"""Reuse copies the results of earlier batches for the same inputs."""
