"""Differences between the two databases and their drivers: engines, column types, and errors."""
