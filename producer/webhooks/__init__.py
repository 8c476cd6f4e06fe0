"""Webhooks: the rules for their addresses, signatures, and the sender that delivers events at least once."""
