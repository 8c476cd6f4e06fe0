"""Schedules: what is to be run when, and what came of it. Nothing here needs a process to babysit."""
