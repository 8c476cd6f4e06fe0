"""Uploaded files: where their bytes are, and how they become batches."""
