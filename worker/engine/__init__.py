"""Claim and tokenize, forward, write: three threads that carry slices through the loaded model."""
