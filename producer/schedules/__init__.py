"""Schedules: what is to be run when, as batches of its own."""
