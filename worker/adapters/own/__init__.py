"""Adapters of tasks of one's own."""
