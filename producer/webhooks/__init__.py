"""Webhooks: signed messages that are sent at least once."""
