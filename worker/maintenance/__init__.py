"""Periodic tasks that any worker may run; a row in SQL lets one process at a time run each."""
