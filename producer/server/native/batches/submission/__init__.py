"""Submitting batches over HTTP: bodies of requests and their options, dry runs and refusals."""
