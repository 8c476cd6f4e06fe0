"""Cron expressions, time zones, due times, deadlines and file templates. Pure functions, without I/O."""
