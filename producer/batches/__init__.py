"""Batches from the user's side: their views and progress, and how to cancel, retry and delete them."""
