"""Tenants own batches, files, schedules and API keys."""
