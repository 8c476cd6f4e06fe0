"""Schedules, which run pipelines at set times. Any worker may advance them; no scheduler process is needed."""
