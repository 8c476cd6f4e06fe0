"""Runs that follow the run of another schedule: they are planned with its end, and read its results."""
